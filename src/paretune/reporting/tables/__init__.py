"""Tables: see the modules."""
