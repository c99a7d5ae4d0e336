"""Scores of answers: classification, numbers, translations; SloBench's own beside them."""
