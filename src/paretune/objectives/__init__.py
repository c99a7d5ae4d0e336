"""Objectives: see the modules."""
