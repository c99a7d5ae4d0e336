"""Runs that were trained elsewhere, judged by their answers. No torch.

:mod:`.rows` reads files, tables and outputs of libraries into rows of one form; :mod:`.runs` makes
of them a study and its records, which :mod:`paretune.analysis` and :mod:`paretune.reporting` take
as they take those of a store.
"""
