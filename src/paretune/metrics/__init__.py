"""Scores of a run's answers: classification (multiple choice included) and regression."""
