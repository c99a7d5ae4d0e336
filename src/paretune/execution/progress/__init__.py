"""Progress: see the modules."""
