"""Pretrained models: their files (``sources``), loading, and where their parts are (``structure``).

``changes`` takes back what is done to a model. ``dropout`` and ``packing`` make training fast and
reproducible; the plain path through ``transformers`` needs none of them.
"""
