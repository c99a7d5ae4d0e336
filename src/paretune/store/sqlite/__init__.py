"""Sqlite: see the modules."""
