"""One run trained: the loop, its guards, its checkpoints. Readable from top to bottom in loop.py."""
