"""Which runs a study asks for, given what has ended: all, those of a race, a budget or a search.

:mod:`~paretune.search.expand` lists all of them. :mod:`~paretune.search.race` asks for those that
may still change the answer; the rounds themselves are decided in :mod:`paretune.analysis.racing`,
so that reports can show them. :mod:`~paretune.search.budget` asks for what is worth its time. The
search of ``method: auto`` is :mod:`~paretune.search.auto`; its arithmetic, in pure functions, is
what the space is (:mod:`.space`), what may raise the front (:mod:`.surrogate`), and what a search
does as its results come in (:mod:`.schedule`).
"""
