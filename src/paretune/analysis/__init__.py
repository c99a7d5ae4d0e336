"""Conclusions from records: pure functions on typed values, without torch.

:mod:`~paretune.analysis.cells` groups the runs of a study. Each other file here answers one
question about cells: which runs count, what failed, which scores are comparable, what is proven of
a pair, a rank or a baseline. ``statistics`` knows no cells: it has the two rules of a verdict.
``pareto`` has the posterior and weighs scores against costs. ``passes`` decides how many passes
each method gets.
"""
