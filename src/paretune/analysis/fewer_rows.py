"""Methods trained on shares of the labelled rows, and from how many rows on a lead is proven.

A share holds its selection part, so it is all that somebody has who labelled so many rows; the test
rows are the same for every share (``protocol.rows`` with ``until: complete``). Each share has
comparisons of its own, corrected as those of all rows are.

"Better from n rows on" is a sequence of claims about one pair: the largest number of rows first,
and each smaller one only while every larger one is proven. A fixed sequence needs no further
correction (Maurer, Hothorn and Lehmacher 1995). Over several pairs, claims are corrected at each
number of rows, not over them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.comparisons import PairwiseComparisons
from paretune.analysis.over_tasks import compare_over_tasks
from paretune.analysis.pairs import Standing
from paretune.methods import baselines

Levels = Mapping[float, PairwiseComparisons]
"""Comparisons of the cells of a task by share of its labelled rows, the smallest first."""


@dataclass(frozen=True)
class LeadByRows:
    """A method minus a rival, by share of the labelled rows, the smallest first.

    Attributes:
        task: its key; empty: all tasks.
        model: key of the model.
        method: key of the method.
        rival: key of the reference or baseline.
        points: difference and 95 % interval, in hundredths of the metric's highest value.
        standings: of the method.
    """

    task: str
    model: str
    method: str
    rival: str
    points: Mapping[float, tuple[float, float, float]]
    standings: Mapping[float, Standing]

    @property
    def least_share(self) -> float | None:
        """The smallest share from which on, up to all rows, the method is proven better."""
        least = None
        for share in sorted({1.0, *self.standings}, reverse=True):
            if self.standings.get(share) != "above":
                break
            least = share
        return least


def compare_on_shares(comparisons: PairwiseComparisons, reference: str | None = None) -> Levels:
    """Compare the cells of a task on each share of its labelled rows.

    Args:
        comparisons: of the same cells on all rows.
        reference: key of the method of which is asked whether any is better.

    Returns:
        Comparisons by share, 1 included; empty where fewer than two cells have runs on shares.
    """
    cells = comparisons.cells
    if sum(bool(cell.fewer_rows) for cell in cells) < 2:
        return {}
    shares = sorted({record.run.rows for cell in cells for record in cell.fewer_rows})
    levels = {
        share: PairwiseComparisons([_take_share(cell, share) for cell in cells], reference)
        for share in shares
    }
    return {**levels, 1.0: comparisons}


def _take_share(cell: Cell, share: float) -> Cell:
    """A cell with its runs on a share in place of those on all rows."""
    if not cell.fewer_rows and cell.trains_nothing and cell.model != NO_MODEL:
        return cell  # what reads no training rows answers the same on every share
    runs = tuple(record for record in cell.fewer_rows if record.run.rows == share)
    return replace(
        cell, final=runs, fewer_rows=(), tuning=(), cost=(), pending={}, failed_folds=frozenset()
    )


def count_labelled_rows(cells: Sequence[Cell], share: float) -> int | None:
    """How many labelled rows a share has; None under one split, where answers do not tell.

    In cross-validation the tested rows of all other folds are labelled.
    """
    folds = max((cell.folds for cell in cells), default=0)
    tested = max((s.n_examples for cell in cells if (s := cell.interval) is not None), default=0)
    return round(share * tested * (folds - 1) / folds) if folds and tested else None


def list_leads(tasks: Mapping[str, Levels], reference: str | None = None) -> list[LeadByRows]:
    """Each method against the reference and each baseline that may be taken.

    Those over all tasks come first, where there are several.

    Args:
        tasks: comparisons by share, by task.
        reference: key of the method of which is asked whether any is better.
    """
    leads = [
        lead for task, levels in tasks.items() for lead in _list_leads(task, levels, reference)
    ]
    pairs = {(lead.model, lead.method, lead.rival) for lead in leads}
    shares = sorted({share for levels in tasks.values() for share in levels})
    over_tasks = {
        share: {
            (row.model, row.method, row.reference): row
            for row in compare_over_tasks(
                [levels[share] for levels in tasks.values() if share in levels], reference
            )
        }
        for share in shares
    }
    first = []
    for model, method, rival in dict.fromkeys(
        key for by_pair in over_tasks.values() for key in by_pair if key in pairs
    ):
        rows = {
            share: by_pair[model, method, rival]
            for share, by_pair in over_tasks.items()
            if (model, method, rival) in by_pair
        }
        first.append(
            LeadByRows(
                "",
                model,
                method,
                rival,
                {share: (row.points, row.low, row.high) for share, row in rows.items()},
                {share: row.standing for share, row in rows.items()},
            )
        )
    return [*first, *leads]


def _list_leads(task: str, levels: Levels, reference: str | None) -> Iterable[LeadByRows]:
    cells = levels[1.0].cells
    for method in (cell for cell in cells if not cell.baseline):
        for rival in cells:
            is_reference = rival.method == reference and rival.model == method.model
            is_useful = rival.baseline and rival.name not in baselines.TRIVIAL
            is_beside = rival is not method and rival.model in (method.model, NO_MODEL)
            if not is_beside or not (is_reference or is_useful):
                continue
            pairs = {
                share: pair
                for share, level in levels.items()
                if (pair := level.compare(method, rival)) is not None
            }
            if pairs:
                points = {}
                for share, pair in pairs.items():
                    gap = pair.difference
                    scale = 100 / gap.highest
                    points[share] = (gap.estimate * scale, gap.low * scale, gap.high * scale)
                standings = {share: pair.standing for share, pair in pairs.items()}
                yield LeadByRows(task, method.model, method.method, rival.method, points, standings)
