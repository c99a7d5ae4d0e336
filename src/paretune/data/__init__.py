"""Makes examples of a file: reads strictly, builds, audits and splits. Needs no torch.

``rows`` and ``parallel`` read files, ``hub`` fetches datasets, ``build`` makes examples of rows,
``audit`` looks for faults in a dataset.
"""
