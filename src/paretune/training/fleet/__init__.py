"""Fleet: see the modules."""
