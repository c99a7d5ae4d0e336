"""A study made ready on this machine, its costs predicted, and which runs it asks for.

:mod:`~paretune.planning.prepare` makes one value of it and :mod:`~paretune.planning.expand` lists
its runs, given what has ended. :mod:`~paretune.planning.race` asks for those that may still change
the answer; its rounds are decided in :mod:`paretune.analysis.racing`, so that reports can show
them. :mod:`~paretune.planning.budget` asks for what is worth its time.
"""
