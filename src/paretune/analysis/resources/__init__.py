"""Memory and time of training: predictions, and memory by part."""
