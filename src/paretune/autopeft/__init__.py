"""The search of ``method: auto``: which methods, in which layers, how large.

Pure functions: what the space is (:mod:`.space`), what a model of the scores expects
(:mod:`.surrogate`), what is worth trying next (:mod:`.acquisition`), and what a search does as its
results come in (:mod:`.schedule`). :mod:`paretune.planning.auto` makes runs of it.
"""
