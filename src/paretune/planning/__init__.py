"""From a study to its runs: expanded, checked, identified, and their cost predicted."""
