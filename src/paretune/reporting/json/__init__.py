"""Json: see the modules."""
