"""Dropout that each run draws from its own seed, the same alone and in a fleet.

``masks``: which elements are kept; ``rng``: seeds and offsets of a pass, and the context in which
torch's dropout is replaced; ``rates``: the probabilities of a model.
"""
