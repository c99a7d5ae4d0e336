"""What a run has trained, as files that others open: PEFT's, a plain checkpoint, or our own."""
