"""A race: final runs are trained only where they can still change a study's answer.

:mod:`~paretune.analysis.racing.rounds` decides from records which runs each cell gets, by
:mod:`~paretune.analysis.racing.forecast`: what the missing runs may score, and what is then
recommended. Why its claims are those of the full study is in docs/how-it-works/statistics.md.
"""
