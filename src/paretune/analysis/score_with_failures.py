"""A cell's score with its lost seeds counted.

The score that tables show is of the seeds that left answers, with a flag for the others. Whoever
chooses by that would be flattered by a method of which one seed in three survives: so verdicts,
ranks, the front and the recommendation take a seed that diverged or did not fit, and left no
answers, as the lowest score there is. A seed that collapsed has answers and is scored by them. One
that stopped with an unexpected error says nothing of its method.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from paretune import metrics
from paretune.analysis.cells import NO_MODEL, Cell
from paretune.analysis.run_selection import add_failed_seeds
from paretune.analysis.statistics.score_interval import BootstrapScore
from paretune.store.record import UNSCORED_RESULTS


def count_failed_seeds(cell: Cell) -> int:
    """Final seeds that diverged or did not fit and left no answers."""
    return sum(r.outcome in UNSCORED_RESULTS and "test" not in r.predictions for r in cell.final)


def score_with_failures(cell: Cell) -> BootstrapScore | None:
    """The cell's score with lost seeds as the lowest score.

    None where no seed has answers, or where the lowest is minus infinity (R²) and a seed was lost.
    """
    if cell.bootstrap is None:
        return None
    lost, worst = count_failed_seeds(cell), metrics.get(cell.metric).lowest
    if not lost:
        return cell.bootstrap
    return add_failed_seeds(cell.bootstrap, lost, worst) if math.isfinite(worst) else None


def keep_comparable(
    cells: Iterable[tuple[str, BootstrapScore | None]],
) -> dict[str, BootstrapScore]:
    """Those that answered the same examples: only they can be compared. The largest such group."""
    there = {name: found for name, found in cells if found is not None}
    kinds = Counter((found.uid, found.units) for found in there.values())
    if not kinds:
        return {}
    ((usual, _),) = kinds.most_common(1)
    return {name: found for name, found in there.items() if (found.uid, found.units) == usual}


def scores_on_model(cells: Sequence[Cell], model: str) -> Mapping[str, BootstrapScore]:
    """Methods of one model and the baselines without one, by method key, on the same examples."""
    here = [c for c in cells if c.model in (model, NO_MODEL)]
    return keep_comparable((c.method, score_with_failures(c)) for c in here)
