"""Texts of a report: sentences, how numbers are written, and what the terminal shows."""
