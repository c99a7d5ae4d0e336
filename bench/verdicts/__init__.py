"""Studies with a known truth, drawn or replayed, and how often the package's verdicts hold."""
