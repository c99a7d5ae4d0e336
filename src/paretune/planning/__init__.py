"""Prepares a study on this machine, predicts its costs, and lists the runs that it asks for.

:mod:`~paretune.planning.prepare` builds one value from the study and
:mod:`~paretune.planning.expand` lists its runs, given those that have ended.
:mod:`paretune.analysis.passes` decides how many passes each method gets, so that reports can show
it. :mod:`~paretune.planning.budget` selects the runs that fit the time.
"""
