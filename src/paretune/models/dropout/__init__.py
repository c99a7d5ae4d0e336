"""Dropout that each run draws from its own seed, the same alone and in a fleet.

From the ground up: ``masks`` (which elements are kept), ``op`` (operations of autograd), ``rng``
(seeds and offsets of a pass), ``patch`` (the context in which torch's dropout is replaced).
``rates``: the probabilities of a model.
"""
