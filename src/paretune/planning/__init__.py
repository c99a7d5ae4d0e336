"""A study made ready on this machine: prepared as one value, checked, its costs predicted."""
