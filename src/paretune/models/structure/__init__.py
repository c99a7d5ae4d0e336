"""Structure: see the modules."""
