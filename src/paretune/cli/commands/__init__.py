"""Commands: see the modules."""
