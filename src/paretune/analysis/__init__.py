"""Conclusions from records: pure functions on typed values, without torch.

:mod:`~paretune.analysis.cells` groups the runs of a study. Each other file here answers one
question about cells: which runs count, what failed, which scores are comparable, what is proven of
a pair, a rank or a baseline. ``statistics`` knows no cells, ``pareto`` weighs scores against costs,
and ``resources`` is about time and memory.

More than fifteen files, since there are as many questions, and each is read without the others.
"""
