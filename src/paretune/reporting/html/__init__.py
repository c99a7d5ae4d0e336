"""Html: see the modules."""
