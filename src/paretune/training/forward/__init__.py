"""Forward: see the modules."""
