"""Schema inference: see the modules."""
