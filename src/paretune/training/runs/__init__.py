"""One run in training: its settings, its state, its slot, its outcome."""
