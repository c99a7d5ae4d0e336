"""The report of a study: one document, then written in any form. No torch.

:func:`build.build_report` computes every statistic and returns a :class:`document.Report`, which is
the JSON. Renderers read only that: ``text.terminal``, ``page``, ``charts`` with ``figure_files``,
and ``tables`` with ``table_files`` (LaTeX, Markdown, CSV, Parquet).
"""
