"""Figures: see the modules."""
