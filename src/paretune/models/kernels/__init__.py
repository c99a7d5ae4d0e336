"""Kernels: see the modules."""
