"""What reads records and asks for more runs, so that a study answers with fewer of them.

:mod:`~paretune.search.race` asks for the runs that may still change the answer; the rounds
themselves are decided in :mod:`paretune.analysis.racing`, so that reports can show them.
"""
