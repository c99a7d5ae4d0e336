"""Formats: see the modules."""
