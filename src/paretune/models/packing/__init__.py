"""Batches without padding: tokens as rows, and attention that knows the sequences.

A packed batch has T rows of one token each, (T, 1), so a model's linear layers, normalisations and
the hooks of methods see what they always see, without a token that means nothing. Only attention,
positions and the head need to know where a sequence begins: see :mod:`.layout` (where sequences
lie), :mod:`.attention`, and :mod:`.apply`, which lets a model read such batches.
"""
