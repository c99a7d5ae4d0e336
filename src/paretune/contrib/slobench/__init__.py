"""Slobench: see the modules."""
