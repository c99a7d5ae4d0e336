"""Tuners of the peft library, as methods."""
