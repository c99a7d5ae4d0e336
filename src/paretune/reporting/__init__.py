"""The report of a study: built once as plain values, then written in any form. No torch.

:func:`build.build_report` computes every statistic and returns a :class:`model.Report`. Renderers
take only that: ``text`` (terminal, sentences), ``html`` (the page), ``charts`` (pictures),
``tables`` (LaTeX, Markdown, CSV, Parquet) and ``json``. ``tables`` and ``text``
also hold the values and sentences that the report is built of.
"""
