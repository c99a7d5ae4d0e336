"""Dropout: see the modules."""
