"""Evaluation: see the modules."""
