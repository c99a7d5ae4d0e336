"""Several runs on one backbone: the shared model, and how many runs fit."""
