"""A study made ready on this machine, its costs predicted, and which runs it asks for.

:mod:`~paretune.planning.prepare` makes one value of it and :mod:`~paretune.planning.expand` lists
its runs, given what has ended. How many passes each method gets is decided in
:mod:`paretune.analysis.passes`, so that reports can show it.
:mod:`~paretune.planning.budget` asks for what fits its time.
"""
