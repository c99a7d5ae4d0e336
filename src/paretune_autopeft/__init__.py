"""``method: auto``: combinations of methods, sizes and layers by search, after AutoPEFT.

A second package of the same distribution. paretune finds it by its entry points alone: the method
(:mod:`.method`), what proposes its runs (:mod:`.proposer`), and two tables of the report
(:mod:`.report_tables`). The search itself is :mod:`.search`; its arithmetic, in pure functions, is
what the space is (:mod:`.space`), what may raise the front (:mod:`.surrogate`), and what a search
does as its results come in (:mod:`.schedule`).
"""

NAME, TITLE = "auto", "searched combination"
