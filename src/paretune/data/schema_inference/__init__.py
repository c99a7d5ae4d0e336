"""Guesses of a study file from a data file, for ``paretune new``: task, columns, labels."""
