"""Losses that are computed by kernels of their own."""
