"""Losses: see the modules."""
