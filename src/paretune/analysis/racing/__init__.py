"""A race: final runs are trained only where they can still change a study's answer.

:mod:`~paretune.analysis.racing.rounds` decides from records which runs each cell gets, by
:mod:`~paretune.analysis.racing.completions` (what the missing runs may score) and
:mod:`~paretune.analysis.racing.choice_forecast` (what is then recommended). Methods that are
hopeless before any test answer are left out by :mod:`~paretune.analysis.racing.screening`. Why its
claims are those of the full study is in docs/how-it-works/statistics.md.
"""
