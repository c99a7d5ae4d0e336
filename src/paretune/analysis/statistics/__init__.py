"""Intervals, differences, corrections and sample sizes; the source of each is in its file."""
