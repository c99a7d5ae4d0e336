"""``compare``: two methods of a study beside each other, on every task and model. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.errors import StudyError
from paretune.study import Study
from paretune.verbs.report import load_results

if TYPE_CHECKING:
    from paretune.analysis.cells import Cell
    from paretune.analysis.pairwise_ranks import Pair
    from paretune.analysis.statistics.sample_size import SampleSize


@dataclass(frozen=True)
class ComparisonResult:
    """Two methods on one task and model; ``pair`` is None where one has no score (``why``).

    ``pair.p_holm`` decides, as in the report; ``pair.difference.p`` is uncorrected. ``needed`` is
    there where the pair is undecided. ``blind``: a side that could have several seeds has one, so
    what they move is not known.
    """

    task: str
    model: str
    metric: str
    pair: Pair | None
    needed: SampleSize | None
    lost: tuple[str, ...]
    blind: bool = False
    why: str = ""


def compare(
    study: Study | Path | str, a: str, b: str, *, store: Path | str | None = None
) -> tuple[ComparisonResult, ...]:
    """The score of ``a`` minus that of ``b`` for each task and model.

    Args:
        study: a study, its file, or the name of a shipped one.
        a: a method or baseline of the study, as the report calls it.
        b: another.
        store: folder of the results; ``studies/NAME`` by default.

    Raises:
        StudyError: no such study or method, or twice the same.
        StoreError: the store is missing or damaged, or never ran this study.
    """
    from paretune.analysis.cells import NO_MODEL, group_into_cells

    found = load_results(study, store)
    cells = group_into_cells(found.study, found.records, found.states)
    known = list(dict.fromkeys(cell.method for cell in cells))
    for name in (a, b):
        if name not in known:
            raise StudyError(
                f'has no method "{name}".',
                where=f"study {found.study.study}",
                remedy=f"It has {', '.join(known)}.",
            )
    if a == b:
        raise StudyError(
            f'"{a}" cannot be compared with itself.',
            where=f"study {found.study.study}",
            remedy=f"Name two of {', '.join(known)}.",
        )
    return tuple(
        _compare_cells([c for c in cells if c.task == task.key], model, a, b)
        for task in found.study.tasks
        for model in dict.fromkeys(c.model for c in cells if c.task == task.key)
        if model != NO_MODEL
    )


def _compare_cells(cells: list[Cell], model: str, a: str, b: str) -> ComparisonResult:
    from paretune import metrics
    from paretune.analysis.cells import NO_MODEL
    from paretune.analysis.pairwise_comparisons import PairwiseComparisons
    from paretune.analysis.score_with_failures import count_failed_seeds, scores_on_model
    from paretune.analysis.statistics.multiple_testing import ALPHA
    from paretune.analysis.statistics.sample_size import estimate_sample_size
    from paretune.reporting.text.formatting import pluralise

    there = scores_on_model(cells, model)
    here = {c.method: c for c in cells if c.model in (model, NO_MODEL)}
    metric = metrics.get(cells[0].metric).title
    absent = [name for name in (a, b) if name not in there]
    if absent:
        why = f"{' and '.join(absent)} {'has' if len(absent) == 1 else 'have'} no score to compare"
        return ComparisonResult(cells[0].task, model, metric, None, None, (), why=why)
    pair = PairwiseComparisons([c for c in cells if c.model in (model, NO_MODEL)]).compare(
        here[a], here[b]
    )
    assert pair is not None  # noqa: S101 - both have scores of the same examples
    more = None
    if pair.standing == "unclear":
        once = (here[a].deterministic, here[b].deterministic)
        more = estimate_sample_size(there[a], there[b], once, ALPHA / pair.family)
    blind = any(len(there[name].seeds) == 1 and not here[name].deterministic for name in (a, b))
    lost = tuple(
        f"{count_failed_seeds(here[name])} of {pluralise(len(here[name].final), 'seed')} of {name} diverged "
        "or did not fit, and counts as the lowest score there is."
        for name in (a, b)
        if count_failed_seeds(here[name])
    )
    return ComparisonResult(cells[0].task, model, metric, pair, more, lost, blind)
