"""Forward paths: how examples go through a model (``micro_batch`` has the Protocol).

``plain`` is readable alone; ``packed``, ``padded`` and ``seq2seq`` are faster, and ``select``
chooses.
"""
