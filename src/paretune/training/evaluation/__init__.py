"""Evaluation of runs: outputs, generated texts, predictions and their scores."""
