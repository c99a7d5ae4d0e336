"""Which runs a study asks for, given what has ended: all, those of a race or of a budget.

:mod:`~paretune.search.expand` lists all of them. :mod:`~paretune.search.race` asks for those that
may still change the answer; the rounds themselves are decided in :mod:`paretune.analysis.racing`,
so that reports can show them. :mod:`~paretune.search.budget` asks for what is worth its time.
"""
