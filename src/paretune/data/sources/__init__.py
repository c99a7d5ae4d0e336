"""Sources: see the modules."""
