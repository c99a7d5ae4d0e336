"""Where data comes from: pinned downloads, the hub, the shipped samples, and their cache."""
