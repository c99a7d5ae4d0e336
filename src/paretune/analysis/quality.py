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

from paretune.analysis.cells import NO_MODEL, Cell
from paretune.analysis.interval import Scored
from paretune.analysis.scores import LOWEST
from paretune.analysis.selected import with_lost
from paretune.store.record import LOST


def lost_seeds(cell: Cell) -> int:
    """Final seeds that diverged or did not fit and left no answers."""
    return sum(r.outcome in LOST and "test" not in r.predictions for r in cell.final)


def quality(cell: Cell) -> Scored | None:
    """The cell's score with lost seeds as the lowest score.

    None where no seed has answers, or where the lowest is minus infinity (R²) and a seed was lost.
    """
    if cell.scored is None:
        return None
    lost, worst = lost_seeds(cell), LOWEST.get(cell.metric, 0.0)
    if not lost:
        return cell.scored
    return with_lost(cell.scored, lost, worst) if math.isfinite(worst) else None


def same_examples(cells: Iterable[tuple[str, Scored | None]]) -> dict[str, Scored]:
    """Those that answered the same examples: only they can be compared. The largest such group."""
    there = {name: found for name, found in cells if found is not None}
    kinds = Counter((found.uid, found.units) for found in there.values())
    if not kinds:
        return {}
    ((usual, _),) = kinds.most_common(1)
    return {name: found for name, found in there.items() if (found.uid, found.units) == usual}


def on_model(cells: Sequence[Cell], model: str) -> Mapping[str, Scored]:
    """Methods of one model and the baselines without one, by method key, on the same examples."""
    here = [c for c in cells if c.model in (model, NO_MODEL)]
    return same_examples((c.method, quality(c)) for c in here)
