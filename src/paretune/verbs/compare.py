"""``compare``: two methods of a study, paired on the same examples. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.errors import StudyError
from paretune.study import Study
from paretune.terminal.notebook import html_lines
from paretune.verbs.report import load_results

if TYPE_CHECKING:
    from paretune.analysis.cell import Cell
    from paretune.analysis.pairwise_ranks import Pair
    from paretune.analysis.statistics.sample_size import SampleSize


@dataclass(frozen=True)
class ComparisonResult:
    """Two methods on one task and model.

    Attributes:
        task, model, metric: what was compared.
        pair: the difference; None if one method has no score (``why``). As in the report,
            ``pair.p_holm`` decides; ``pair.difference.p`` is uncorrected.
        sample_size: how many seeds or examples would decide a pair without a verdict.
        failed_seeds: sentences on runs that failed, and on how many may.
        single_seed: a method that depends on the seed has one only, so the variance between seeds
            is unknown.
    """

    task: str
    model: str
    metric: str
    pair: Pair | None
    sample_size: SampleSize | None
    failed_seeds: tuple[str, ...]
    single_seed: bool = False
    why: str = ""

    def _repr_html_(self) -> str:
        from paretune.reporting.text.pair_comparison import describe_pair

        sentences: tuple[str, ...] = (f"{self.why}.",)
        if self.pair is not None:
            sentences = tuple(describe_pair(self.pair, self.sample_size, self.failed_seeds))
        heading = f"{self.model} on {self.task}: {self.metric}"
        return html_lines([heading], bold=True) + html_lines(sentences)


def compare(
    study: Study | Path | str, a: str, b: str, *, store: Path | str | None = None
) -> tuple[ComparisonResult, ...]:
    """The score of ``a`` minus that of ``b`` for each task and model.

    Args:
        study: a study, its file, or the name of a shipped one.
        a: a method or baseline of the study, as the report calls it.
        store: folder of the results; ``studies/NAME`` by default.

    Raises:
        StudyError: no such study or method, or twice the same.
        StoreError: the store is missing or damaged, or never ran this study.
    """
    from paretune.analysis.cell import NO_MODEL
    from paretune.analysis.cells import group_into_cells

    results = load_results(study, store)
    cells = group_into_cells(results.study, results.records, results.states)
    names = list(dict.fromkeys(cell.method for cell in cells))
    for name in (a, b):
        if name not in names:
            raise StudyError(
                f'has no method "{name}".',
                where=f"study {results.study.study}",
                remedy=f"It has {', '.join(names)}.",
            )
    if a == b:
        raise StudyError(
            f'"{a}" cannot be compared with itself.',
            where=f"study {results.study.study}",
            remedy=f"Name two of {', '.join(names)}.",
        )
    return tuple(
        _compare_cells([c for c in cells if c.task == task.key], model, a, b)
        for task in results.study.tasks
        for model in dict.fromkeys(c.model for c in cells if c.task == task.key)
        if model != NO_MODEL
    )


def _compare_cells(cells: list[Cell], model: str, a: str, b: str) -> ComparisonResult:
    from paretune import metrics
    from paretune.analysis.cell import NO_MODEL
    from paretune.analysis.comparable_scores import scores_on_model
    from paretune.analysis.pairwise_comparisons import PairwiseComparisons
    from paretune.methods.core.titles import title_of
    from paretune.reporting.text.formatting import describe_failures

    scores = scores_on_model(cells, model)
    by_method = {c.method: c for c in cells if c.model in (model, NO_MODEL)}
    metric = metrics.get(cells[0].metric).title
    absent = [name for name in (a, b) if name not in scores]
    if absent:
        why = f"Not compared: no score yet of {' and '.join(map(title_of, absent))}"
        return ComparisonResult(cells[0].task, model, metric, None, None, (), why=why)
    comparisons = PairwiseComparisons([c for c in cells if c.model in (model, NO_MODEL)])
    pair = comparisons.compare(by_method[a], by_method[b])
    assert pair is not None  # noqa: S101 - both have scores of the same examples
    sample_size = None
    if pair.standing == "unclear":
        sample_size = comparisons.estimate_sample_size(by_method[a], by_method[b])
    failed_seeds = tuple(
        describe_failures(title_of(name), rate)
        for name in (a, b)
        if (rate := by_method[name].failures) is not None and rate.runs
    )
    return ComparisonResult(
        cells[0].task, model, metric, pair, sample_size, failed_seeds, pair.withheld == "one run"
    )
