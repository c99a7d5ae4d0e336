"""Text: see the modules."""
