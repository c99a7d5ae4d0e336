"""One run in training: the job, its settings, its state, its slot, its outcome."""
