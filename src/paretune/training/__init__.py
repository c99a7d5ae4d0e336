"""One run trained: the loop (read loop.py from top to bottom), its guards, its checkpoints."""
