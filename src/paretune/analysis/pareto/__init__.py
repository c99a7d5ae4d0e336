"""Quality against costs: the front, and what to take."""
