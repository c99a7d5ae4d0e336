"""Finds the folder of checked files on this machine for the name of a model in a study file."""
