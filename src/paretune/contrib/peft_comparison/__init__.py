"""Peft comparison: see the modules."""
