"""Own data: see the modules."""
