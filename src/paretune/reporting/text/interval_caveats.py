"""Where intervals of a report may cover the true score less often than 93 %, in sentences.

Measured by simulation: ``tests/analysis/statistics/test_interval_coverage.py``, docs/statistics.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paretune.analysis.cells import Cell
from paretune.reporting.text.formatting import join_names

SEEDS, EXAMPLES = 10, 100
"""From these numbers on, coverage was at least 93 % in every simulated study."""


def find_interval_caveats(cells: Sequence[Cell]) -> Iterable[str]:
    """One sentence for each reason that some score gives."""
    scored = [(cell, cell.interval) for cell in cells if cell.interval is not None]
    few = {i.n_seeds for cell, i in scored if 1 < i.n_seeds < SEEDS}
    if few:
        counts = join_names([str(count) for count in sorted(few)], "or")
        yield (
            f"Intervals over {counts} seeds cover the true score in at least 93 % of simulated "
            "studies where seeds scatter around their mean. Where a method succeeds with most "
            "seeds and fails with some, few seeds may show only one kind, and coverage is lower."
        )
    small = {
        cell.bootstrap.units
        for cell, i in scored
        if i.examples_only and cell.bootstrap and cell.objective.predicts_labels
    }
    if small and min(small) < EXAMPLES:
        yield (
            f"Scores of one run on {min(small)} examples: 95 % is the coverage averaged over true "
            "scores. A proportion of so few examples takes few values, and for some true scores "
            "coverage is only 90 to 93 %."
        )
