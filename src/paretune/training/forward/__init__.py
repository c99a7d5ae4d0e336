"""Forward paths: how examples go through a model (``passes`` has their base class).

Padded passes are readable alone; ``packed`` ones are faster, and ``select`` chooses.
"""
