"""Conclusions from records: pure functions on typed values, without torch."""
