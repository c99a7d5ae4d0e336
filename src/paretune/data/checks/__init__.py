"""Checks: see the modules."""
