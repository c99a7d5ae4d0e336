"""Costs: see the modules."""
