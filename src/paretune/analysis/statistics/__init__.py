"""Intervals, differences, sample sizes."""
