"""From a study to its runs: what is asked for, checked, identified, and predicted."""
