"""Rows of one task while its report is built: a cell with its statistics, before it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.comparisons import PairwiseComparisons, Verdict
from paretune.analysis.learning_check import is_mostly_collapsed, rate_edge_of
from paretune.analysis.learning_rates import rate_intervals
from paretune.analysis.memory_breakdown import MemoryBreakdown, break_down_memory
from paretune.analysis.pairs import RankRange
from paretune.analysis.pareto.costs import count_trained_parameters
from paretune.analysis.statistics.intervals import Interval, score_interval
from paretune.methods.baselines import CONSTANT, WITHOUT_TRAINING
from paretune.methods.core.titles import title_of
from paretune.reporting.parts import (
    COUNTED_PARTS,
    LABEL,
    Amount,
    BaselineDifference,
    BaselineVerdict,
    CellCost,
    CellReport,
    Difference,
    FailedRuns,
    FinalRun,
    LikelihoodOfRun,
    MemoryParts,
    Ranks,
    RowValues,
    Score,
    SelectionPoint,
    TriedRate,
)
from paretune.reporting.text.formatting import (
    SELECTED_ON_TEST,
    format_bytes,
    format_parameters,
    format_seconds,
)
from paretune.store.record import UNSCORED_OUTCOMES, Record
from paretune.study import Readout
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line

USEFUL_POINTS = 10.0
"""A bound of so many points or more says nothing that helps."""


@dataclass(frozen=True)
class CellRow:
    """One cell of the study with what is said of it.

    ``title`` names it in sentences: ``LoRA on e5-small``, or ``LoRA`` where there is one model.
    ``verdict`` is None where there is no score, and for baselines without a model.
    ``below_untuned``: proven worse than the untuned model. ``not_above_untrained``: the baselines
    that train nothing (``untuned``, ``few_shot``) than which it is not proven better, but for an
    untuned model than which it is worse. ``rank``: None for baselines. ``other_readout``: how the
    cell answers, where that is not how its model usually does.
    """

    cell: Cell
    title: str
    interval: Interval | None
    cost: CellCost
    memory: MemoryBreakdown | None
    verdict: Verdict | None
    rank: RankRange | None
    at_most_points_worse: float | None
    below_untuned: bool
    not_above_untrained: tuple[str, ...]
    other_readout: Readout | None

    @property
    def method(self) -> str:
        """Printable name of the method: ``LoRA``, or ``LoRA (by head)`` by another readout."""
        name = sanitise_line(title_of(self.cell.method))
        return f"{name} (by {self.other_readout.replace('_', ' ')})" if self.other_readout else name

    @property
    def model(self) -> str:
        """Printable name of the model."""
        return sanitise_line(self.cell.model)

    @property
    def model_key(self) -> str | None:
        """Printable name of the model; None without one."""
        return None if self.cell.model == NO_MODEL else self.model

    @property
    def names(self) -> RowValues:
        """Its first values in a row of a :class:`~paretune.reporting.parts.Table`."""
        return {
            "model": self.model_key,
            "method": sanitise_line(self.cell.method),
            LABEL: self.method,
            "baseline": self.cell.baseline,
        }


def build_rows(cells: Sequence[Cell], comparisons: PairwiseComparisons) -> tuple[CellRow, ...]:
    """A row for each cell of one task: methods in their order, then baselines."""
    ranks = {
        (model, method): rank
        for model in dict.fromkeys(cell.model for cell in cells)
        for method, rank in comparisons.ranks(model).items()
    }
    several_models = len({cell.model for cell in cells} - {NO_MODEL}) > 1
    untuned = {sanitise_line(cell.method) for cell in cells if cell.name == "untuned"}
    untrained = {sanitise_line(cell.method) for cell in cells if cell.name in WITHOUT_TRAINING}
    # Without a head, where any cell of the model shows that it can.
    usual_readouts: dict[str, Readout] = {}
    for cell in cells:
        headless = cell.objective.readouts
        if cell.readout in headless:
            usual_readouts[cell.model] = headless[0]
        usual_readouts.setdefault(cell.model, "head")

    def build(cell: Cell) -> CellRow:
        with_model = several_models and cell.model != NO_MODEL
        name = title_of(cell.method)
        verdict = comparisons.verdict(cell, sanitise_line)
        standings = [(pair.standing, pair.b) for pair in verdict.comparisons] if verdict else []
        # Worse than the untuned model is a sentence of its own.
        level = {("unclear", key) for key in untrained}
        level |= {("below", key) for key in untrained - untuned}
        # The probe has no other readout, and baselines without a model have none.
        usual = cell.readout in (None, usual_readouts[cell.model])
        shortfall = comparisons.shortfall(cell)
        return CellRow(
            cell=cell,
            title=sanitise_line(f"{name} on {cell.model}" if with_model else name),
            interval=cell.interval,
            cost=summarise_cost(cell),
            memory=break_down_memory(cell.cost),
            verdict=verdict,
            rank=ranks.get((cell.model, cell.method)),
            at_most_points_worse=None
            if shortfall is None or shortfall >= USEFUL_POINTS
            else shortfall,
            below_untuned=any(("below", key) in standings for key in untuned),
            not_above_untrained=()
            if cell.baseline
            else tuple(key for standing, key in standings if (standing, key) in level),
            other_readout=None if usual or cell.name == cell.objective.probe else cell.readout,
        )

    return tuple(map(build, sorted(cells, key=lambda cell: cell.baseline)))


def write_cell(row: CellRow, signs: str, likelihoods: Mapping[str, LikelihoodOfRun]) -> CellReport:
    """The document's part on one row.

    Args:
        signs: of the first table.
        likelihoods: by run.
    """
    cell, verdict = row.cell, row.verdict
    rate_scores = rate_intervals(cell.tuning, cell.metric)
    failures = cell.failures if cell.failures and cell.failures.runs else None
    memory = row.memory
    return CellReport(
        model=row.model_key,
        method=sanitise_line(cell.method),
        label=row.method,
        baseline=cell.baseline,
        name=cell.name,
        title=row.title,
        deterministic=cell.deterministic,
        readout=cell.readout,
        finished=cell.finished,
        all_trials_failed=cell.all_trials_failed,
        rate=cell.rate,
        rate_undecided=cell.undecided,
        rate_edge=rate_edge_of(cell),
        tried=tuple(
            TriedRate(
                rate=trial.rate,
                score=Score.read(rate_scores.get(trial.rate)),
                folds=trial.folds,
                lost=trial.failed,
            )
            for trial in cell.choice.table
        ),
        score=Score.read(row.interval),
        rank=Ranks.read(row.rank),
        at_most_points_worse=row.at_most_points_worse,
        failures=FailedRuns.read(failures),
        verdict=BaselineVerdict.read(verdict),
        comparisons=tuple(
            BaselineDifference(
                baseline=pair.b,
                difference=Difference.model_validate(pair.difference),
                p_holm=pair.p_holm,
                standing=pair.standing,
            )
            for pair in (verdict.comparisons if verdict else ())
        ),
        collapsed=is_mostly_collapsed(cell),
        signs=signs,
        flags=tuple(list_flags(cell, row.below_untuned)),
        outcomes=dict(cell.outcomes),
        run_seconds=cell.run_seconds,
        runs=tuple(_write_run(record, cell, likelihoods) for record in cell.final),
        cost=row.cost,
        costs=tuple(
            {
                "trained_parameters": record.result.get("trained_parameters"),
                **{k: v for k, v in record.measured.items() if k not in _OF_THE_MACHINE},
                "run": record.run_id,
                "outcome": record.outcome,
            }
            for record in cell.cost
        ),
        memory=None
        if memory is None
        else MemoryParts(
            measurements=memory.measurements,
            peak=memory.peak,
            **{name: memory.counted.get(name) for name in COUNTED_PARTS},
            working=memory.working,
            rest=memory.rest,
            missing={name: sanitise_line(reason) for name, reason in memory.missing.items()},
        ),
    )


_OF_THE_MACHINE = ("environment", "wall_seconds")
"""What a solo measurement has beside its costs."""


def _write_run(record: Record, cell: Cell, likelihoods: Mapping[str, LikelihoodOfRun]) -> FinalRun:
    result, outer = record.result, record.run.outer
    scores = result.get("scores") or {}
    examples = (scores.get("selection") or {}).get("n")
    curve = []
    for point in result.get("curve") or ():
        selection: Any = point.get("selection")
        if not isinstance(selection, Mapping):
            selection = {"primary": selection}
        values = {
            **{key: point.get(key) for key in ("step", "epoch", "loss")},
            "examples": examples,
            "selection": selection.get("primary"),
            "selection_loss": selection.get("loss"),
        }
        curve.append(SelectionPoint.model_validate(values))
    return FinalRun(
        run=record.run_id,
        seed=record.run.seed,
        rate=record.run.learning_rate,
        outer_fold=None if outer is None else outer.index,
        outer_repeat=None if outer is None else outer.repeat,
        outcome=record.outcome,
        steps=result.get("steps"),
        best_step=result.get("best_step"),
        trained_parameters=result.get("trained_parameters"),
        score=_score_run(record, cell, "test"),
        score_shifted=(scores.get("test_shifted") or {}).get("primary"),
        selection=_score_run(record, cell, "selection"),
        scores=scores.get("test"),
        likelihood=likelihoods.get(record.run_id),
        wall_seconds=record.measured.get("wall_seconds"),
        curve=tuple(curve),
    )


def _score_run(record: Record, cell: Cell, part: str) -> Score | None:
    """One run's primary score with its interval over the examples of a part."""
    predictions = record.predictions.get(part)
    if predictions is None or not predictions.uid:
        return None
    return Score.read(score_interval([predictions], cell.metric))


def list_flags(cell: Cell, below_untuned: bool = False) -> Iterable[str]:
    """What else must be known of a cell: ``collapsed 1/3``, ``selected on the test part``."""
    total = len(cell.final)
    if below_untuned:
        yield "worse than the untuned model"
    constant = cell.name in CONSTANT
    if constant:
        yield "constant by design"
    for outcome in UNSCORED_OUTCOMES if constant else ("collapsed", *UNSCORED_OUTCOMES):
        if count := cell.outcomes.get(outcome, 0):
            yield f"{outcome.replace('_', ' ')} {count}/{total}"
    if cell.all_trials_failed:
        yield "no rate could be trained"
    if cell.stop == "limit":
        yield "not trained: exceeds a limit of the study"
    elif cell.stop is not None:
        yield f"stopped after {total} of {name_runs(cell)}: more could not change the choice"
    elif cell.final and total < cell.expected_runs:
        yield f"{total} of {cell.expected_runs} seeds so far"
    if cell.selected_on_test:
        yield SELECTED_ON_TEST
    if cell.interval and cell.interval.examples_only and not cell.deterministic:
        yield "one seed: interval over examples only"
    for record in cell.cost:
        if contradiction := record.measured.get("contradicted"):
            yield f"step time in doubt: {contradiction['ratio']:.1f} times that of its runs"
    if cell.other_settings:
        yield f"{pluralise(cell.other_settings, 'run')} of other settings or data not counted"


def name_runs(cell: Cell) -> str:
    """``5 seeds``; ``5 folds``: what the study asks for."""
    word = "fold" if cell.design.is_cross_validation else "seed"
    return pluralise(cell.expected_runs, word)


def summarise_cost(cell: Cell) -> CellCost:
    """The cost of a cell: means over its solo measurements; what is not measured says why."""
    step = _summarise(cell, ("step_seconds", "median"), format_seconds)
    if step.value is not None and len(cell.cost) == 1:
        quartiles = cell.cost[0].measured["step_seconds"]
        if quartiles is not None:
            text = format_seconds(step.value, quartiles["q1"], quartiles["q3"])
            step = Amount(value=step.value, text=text)
    count = count_trained_parameters(cell)
    trains_none = "trains no model" if cell.model == NO_MODEL else "not known yet"
    last: Mapping[str, Any] = cell.cost[-1].measured if cell.cost else {}
    forms = {
        "device": "{}",
        "device_name": "{}",
        "threads": "{} threads",
        "batch_size": "batch {}",
        "length": "{} tokens",
    }
    conditions = (form.format(last[key]) for key, form in forms.items() if last.get(key))
    return CellCost(
        memory=_summarise(cell, ("phases", "train", "peak_bytes"), format_bytes),
        step=step,
        trained=Amount(
            value=count, text=trains_none if count is None else format_parameters(count)
        ),
        saved=_summarise(cell, ("saved_bytes",), format_bytes),
        evaluation=_summarise(cell, ("phases", "evaluation", "peak_bytes"), format_bytes),
        latency=_summarise(cell, ("inference", "unmerged_seconds_per_example"), format_seconds),
        energy=_summarise(cell, ("energy", "joules"), lambda joules: f"{joules:.3g} J"),
        conditions=sanitise_line(", ".join(conditions)),
        counter=sanitise_line(str(last.get("peak_counter", ""))),
    )


def _summarise(cell: Cell, key: tuple[str, ...], format_: Callable[[float], str]) -> Amount:
    if cell.model == NO_MODEL:
        return Amount(value=None, text="trains no model")
    values = [v for v in (_value_at(r.measured, key) for r in cell.cost) if v is not None]
    if not values:
        return Amount(value=None, text=f"not measured: {_find_reason(cell, key)}")
    mean = float(np.mean(values))
    if len(values) == 1:
        return Amount(value=mean, text=format_(mean))
    low, high = min(values), max(values)
    text = f"{format_(mean)} ({format_(low)} to {format_(high)})"
    return Amount(value=mean, text=text, low=low, high=high)


def _value_at(measured: Mapping[str, Any], key: tuple[str, ...]) -> float | None:
    """The number under these keys, by which also reasons are stored; None without one."""
    value: Any = measured
    for part in key:
        value = value.get(part) if isinstance(value, Mapping) else None
    return None if value is None else float(value)


def _find_reason(cell: Cell, key: tuple[str, ...]) -> str:
    if not cell.cost:
        return "no solo measurement yet"
    last: Record = cell.cost[-1]
    if last.outcome == "out_of_memory":
        return "the measurement ran out of memory"
    if last.outcome == "error":
        return "the measurement stopped with an error"
    reasons: Mapping[str, str] = last.measured.get("not_measured", {})
    # The most specific reason first: phases.train.peak_bytes, phases.train, phases; peak_bytes.
    for depth in range(len(key), 0, -1):
        if reason := reasons.get(".".join(key[:depth])) or reasons.get(key[depth - 1]):
            return sanitise_line(reason)
    return "the measurement does not have it"
