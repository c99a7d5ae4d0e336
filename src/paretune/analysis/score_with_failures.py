"""A cell's score in which failed seeds count.

The score in tables is the mean over seeds with answers, with a flag for the others. A choice by
that score would favour a method of which one seed in three survives. So verdicts, ranks, the Pareto
front and the recommendation give a seed that diverged or did not fit, and left no answers, the
metric's lowest score. A collapsed seed has answers and is scored by them. A seed that stopped with
an unexpected error says nothing about its method and does not count.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from paretune import metrics
from paretune.analysis.cells import NO_MODEL, Cell
from paretune.analysis.run_selection import add_failed_seeds
from paretune.analysis.statistics.bootstrap_score import BootstrapScore


def count_failed_seeds(cell: Cell) -> int:
    """Final seeds that diverged or did not fit, and left no answers."""
    return sum(r.is_lost and "test" not in r.predictions for r in cell.final)


def score_with_failures(cell: Cell) -> BootstrapScore | None:
    """The cell's score with failed seeds at the metric's lowest.

    None if no seed has answers, or if a seed failed and the lowest is minus infinity (R²).
    """
    if cell.bootstrap is None:
        return None
    failed, lowest = count_failed_seeds(cell), metrics.get(cell.metric).lowest
    if not failed:
        return cell.bootstrap
    return add_failed_seeds(cell.bootstrap, failed, lowest) if math.isfinite(lowest) else None


def keep_comparable(
    scores: Iterable[tuple[str, BootstrapScore | None]],
) -> dict[str, BootstrapScore]:
    """The largest group of scores on the same examples: only those can be compared."""
    by_name = {name: score for name, score in scores if score is not None}
    examples = Counter((score.uid, score.units) for score in by_name.values())
    if not examples:
        return {}
    ((most_common, _),) = examples.most_common(1)
    return {name: s for name, s in by_name.items() if (s.uid, s.units) == most_common}


def scores_on_model(cells: Sequence[Cell], model: str) -> Mapping[str, BootstrapScore]:
    """By method key, on the same examples: methods of one model, and baselines without a model."""
    on_model = [c for c in cells if c.model in (model, NO_MODEL)]
    return keep_comparable((c.method, score_with_failures(c)) for c in on_model)
