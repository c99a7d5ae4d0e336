"""``compare``: two methods of a study side by side. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from paretune import metrics
from paretune.analysis.cell import NO_MODEL
from paretune.analysis.comparisons import PairwiseComparisons
from paretune.analysis.memory_breakdown import PartDifference, break_down_memory, compare_breakdowns
from paretune.errors import StudyError, require_name, spell_option
from paretune.methods.core.titles import title_of
from paretune.reporting.text.comparison import describe_pair, explain_memory_difference
from paretune.reporting.text.formatting import describe_failures
from paretune.terminal.sanitise import sanitise_line
from paretune.verbs.options import StoreFolder, StudyLike, Word
from paretune.verbs.report import load_results
from paretune.verbs.result import Result, ResultList

if TYPE_CHECKING:
    from rich.console import RenderableType

    from paretune.analysis.pairs import Pair
    from paretune.analysis.statistics.sample_size import SampleSize


@dataclass(frozen=True, repr=False)
class ComparisonResult(Result):
    """Two methods on one task and model.

    Attributes:
        task: the task's key.
        model: the model's key.
        metric: title of the primary metric.
        pair: the difference; None if one method has no score (``why``). As in the report,
            ``pair.p_holm`` decides; ``pair.difference.p`` is uncorrected.
        sample_size: how many seeds or examples would decide a pair without a verdict.
        failed_seeds: sentences on runs that failed, and on how many may.
        single_seed: whether a method that depends on the seed has one only, so that the variance
            between seeds is unknown.
        why: why there is no difference; empty where there is one.
        note: assumptions of the claim.
        memory: sentences that say where the difference in memory lies; only two named methods whose
            peaks in training were measured have them.
        memory_parts: memory of both in training, in bytes by part, the largest difference first;
            empty where parts do not add up to the peak.
    """

    task: str
    model: str
    metric: str
    pair: Pair | None = None
    sample_size: SampleSize | None = None
    failed_seeds: tuple[str, ...] = ()
    single_seed: bool = False
    of_trained: bool = False
    why: str = ""
    note: str = ""
    memory: tuple[str, ...] = ()
    memory_parts: tuple[PartDifference, ...] = ()

    def describe(self) -> Iterable[RenderableType]:
        """A heading and sentences."""
        heading = f"{self.model} on {self.task}: {self.metric}"
        yield Text(sanitise_line(heading), style="bold")
        sentences: Iterable[str] = [f"{sanitise_line(self.why)}."]
        if self.pair is not None:
            size, failed = self.sample_size, self.failed_seeds
            sentences = describe_pair(self.pair, size, failed, of_trained=self.of_trained)
            sentences = [*sentences, *filter(None, [self.note])]
        for sentence in [*sentences, *self.memory]:
            yield Text(f"  {sentence}")


class ComparisonResults(ResultList[ComparisonResult]):
    """Two methods on every task and model.

    Attributes:
        tasks: each: task, model, metric, pair (a, b, difference as an interval, p_holm, mcnemar;
            or null), sample_size, failed_seeds, single_seed, of_trained, why, note, memory,
            memory_parts (part, a, b).
    """


def compare(
    study: StudyLike,
    a: Word | None = None,
    b: Word | None = None,
    *,
    than: Annotated[str | None, typer.Option(metavar="METHOD")] = None,
    store: StoreFolder = None,
) -> ComparisonResults:
    """Compare two methods, or all methods with one.

    The score of A minus the score of B on the same examples, for every task and model of the
    study, and the parts of their difference in memory. --than METHOD asks whether any method is
    better than METHOD: the claims are corrected for that many comparisons instead of all pairs.

    Args:
        a: A method or baseline: lora, tfidf. With --than: only this one.
        b: The method or baseline to compare it with.
        than: Compare each method with this one. [default: protocol.reference]

    Raises:
        StudyError: no such study or method, or twice the same.
        StoreError: the store is missing or damaged, or never ran this study.
    """
    results = load_results(study, store)
    cells = results.cells
    names = list(dict.fromkeys(cell.method for cell in cells))
    where = f"study {results.study.study}"
    for name in filter(None, (a, b, than)):
        require_name("method", name, names, where)
    reference = results.study.protocol.reference
    note = ""
    if than is not None:
        if reference != than:
            note = f"This holds if {than} was chosen before its scores were seen."
        reference = than
        if b is not None:
            raise StudyError(
                f"{spell_option('than')} names the second method.",
                where=where,
                remedy=f'Leave out "{b}".',
            )
        b = than
    elif a is None or b is None:
        remedy = f"Name two methods, or one by {spell_option('than')} for all against it."
        raise StudyError("compare needs two methods.", where=where, remedy=remedy)
    if a == b:
        remedy = f"Name two of {', '.join(names)}."
        raise StudyError(f'"{a}" cannot be compared with itself.', where=where, remedy=remedy)
    methods = dict.fromkeys(cell.method for cell in cells if not cell.baseline)
    firsts = [name for name in methods if name != b] if a is None else [a]
    compared = []
    for task in results.study.tasks:
        of_task = [cell for cell in cells if cell.task == task.key]
        for model in dict.fromkeys(cell.model for cell in of_task if cell.model != NO_MODEL):
            of_model = [cell for cell in of_task if cell.model in (model, NO_MODEL)]
            comparisons = PairwiseComparisons(of_model, reference)
            memory = {cell.method: break_down_memory(cell.cost) for cell in of_model}
            for first in firsts:
                result = _compare_cells(comparisons, model, first, b)
                result = replace(result, note=note if result.pair else "")
                breakdown, base = memory[first], memory[b]
                if than is None and breakdown and base:
                    sentences = explain_memory_difference(
                        title_of(first), breakdown, title_of(b), base
                    )
                    parts = compare_breakdowns(breakdown, base)
                    result = replace(result, memory=tuple(sentences), memory_parts=parts)
                compared.append(result)
    return ComparisonResults(tuple(compared))


def _compare_cells(
    comparisons: PairwiseComparisons, model: str, a: str, b: str
) -> ComparisonResult:
    by_method = {cell.method: cell for cell in comparisons.cells}
    first, second = by_method[a], by_method[b]
    task = first.task
    metric = metrics.get(first.metric).title
    scores = comparisons.scores(model)
    if absent := [title_of(name) for name in (a, b) if name not in scores]:
        why = f"Not compared: no score of {' and '.join(absent)}"
        return ComparisonResult(task, model, metric, why=why)
    pair = comparisons.compare(first, second)
    if pair is None:
        why = f"Not compared: {title_of(a)} and {title_of(b)} trained in no common fold"
        return ComparisonResult(task, model, metric, why=why)
    undecided = pair.standing == "unclear"
    return ComparisonResult(
        task,
        model,
        metric,
        pair,
        sample_size=comparisons.estimate_sample_size(first, second) if undecided else None,
        failed_seeds=tuple(
            describe_failures(title_of(cell.method), cell.failures)
            for cell in (first, second)
            if cell.failures is not None and cell.failures.runs
        ),
        single_seed=pair.withheld == "one run",
        of_trained=any(cell.failures and cell.failures.failed for cell in (first, second)),
    )
