"""One run in training: its optimiser, its state, its results."""
