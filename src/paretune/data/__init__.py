"""From a file to examples: read strictly, build, audit, split. Needs no torch.

``rows`` and ``parallel`` read files, ``hub`` fetches datasets, ``build`` makes examples of rows,
``audit`` looks for faults in a dataset.
"""
