"""The audit of a data set: sizes, labels, duplicates, leaks, and what parallel data needs."""
