"""Rows of one task while its report is built: a cell with its statistics, before it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.comparisons import PairwiseComparisons, Verdict
from paretune.analysis.learning_check import is_mostly_collapsed
from paretune.analysis.memory_breakdown import break_down_memory
from paretune.analysis.pareto.costs import count_trained_parameters, estimate_cost
from paretune.analysis.statistics.intervals import score_interval
from paretune.answers import Readout
from paretune.methods.baselines import CONSTANT
from paretune.methods.core.titles import title_of
from paretune.reporting.parts import (
    Advice,
    Amount,
    BaselineVerdict,
    CellCost,
    CellReport,
    FinalRun,
    Score,
    TriedRate,
)
from paretune.reporting.text.formatting import (
    SELECTED_ON_TEST,
    format_bytes,
    format_parameters,
    format_rate,
    format_seconds,
)
from paretune.store.record import UNSCORED_OUTCOMES, Record
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line

USEFUL_POINTS = 10.0
"""A bound of this many points or more does not help a reader."""


@dataclass(frozen=True)
class CellRow:
    """One cell of a task, and what the report says of it."""

    cell: Cell
    report: CellReport


def build_rows(
    cells: Sequence[Cell], comparisons: PairwiseComparisons, advice: Advice
) -> tuple[CellRow, ...]:
    """Build a row for each cell of a task: methods in their order, then baselines."""
    ranks = {
        (model, method): rank
        for model in dict.fromkeys(cell.model for cell in cells)
        for method, rank in comparisons.ranks(model).items()
    }
    several_models = len({cell.model for cell in cells} - {NO_MODEL}) > 1
    untuned = {sanitise_line(cell.method) for cell in cells if cell.name == "untuned"}
    # Without a head, where any cell of the model shows that it can.
    usual_readouts: dict[str, Readout] = {}
    for cell in cells:
        headless = cell.objective.readouts
        if cell.readout in headless:
            usual_readouts[cell.model] = headless[0]
        usual_readouts.setdefault(cell.model, "head")
    rows = []
    for cell in sorted(cells, key=lambda cell: cell.baseline):
        label = sanitise_line(title_of(cell.method))
        # The probe has no other readout, and baselines without a model have none.
        usual = cell.readout in (None, usual_readouts[cell.model])
        if not usual and cell.name != cell.objective.probe:
            label = f"{label} (by {str(cell.readout).replace('_', ' ')})"
        on_model = several_models and cell.model != NO_MODEL
        title = f"{title_of(cell.method)} on {cell.model}" if on_model else title_of(cell.method)
        verdict = comparisons.verdict(cell, sanitise_line)
        pairs = verdict.comparisons if verdict else ()
        shortfall = comparisons.shortfall(cell)
        failures = cell.failures
        report = CellReport(
            model=None if cell.model == NO_MODEL else sanitise_line(cell.model),
            method=sanitise_line(cell.method),
            label=label,
            baseline=cell.baseline,
            name=cell.name,
            title=sanitise_line(title),
            deterministic=cell.deterministic,
            readout=cell.readout,
            finished=cell.finished,
            all_trials_failed=cell.all_trials_failed,
            rate=cell.rate,
            rate_undecided=cell.undecided,
            rate_edge=cell.edge,
            rate_reason=cell.choice.reason,
            tried=tuple(
                TriedRate(
                    rate=trial.rate,
                    score=Score.read(trial.interval(cell.metric)),
                    folds=len(trial.runs),
                    lost=trial.failed,
                )
                for trial in cell.choice.table
            ),
            score=Score.read(cell.interval),
            rank=ranks.get((cell.model, cell.method)),
            at_most_points_worse=None
            if shortfall is None or shortfall >= USEFUL_POINTS
            else shortfall,
            failures=failures if failures and failures.runs else None,
            verdict=BaselineVerdict.read(verdict),
            collapsed=is_mostly_collapsed(cell),
            signs=_find_signs(cell, verdict, advice),
            flags=tuple(
                list_flags(cell, any(p.standing == "below" and p.b in untuned for p in pairs))
            ),
            outcomes=dict(cell.outcomes),
            run_seconds=cell.run_seconds,
            runs=tuple(_write_run(record, cell) for record in cell.final),
            cost=summarise_cost(cell),
            costs=tuple(
                {
                    "trained_parameters": record.result.get("trained_parameters"),
                    **{k: v for k, v in record.measured.items() if k not in _OF_THE_MACHINE},
                    "run": record.run_id,
                    "outcome": record.outcome,
                }
                for record in cell.cost
            ),
            memory=break_down_memory(cell.cost),
        )
        rows.append(CellRow(cell, report))
    return tuple(rows)


def _find_signs(cell: Cell, verdict: Verdict | None, advice: Advice) -> str:
    """Find the signs of a cell in the first table, which ``overview`` explains."""
    signs = ""
    if not (cell.final or cell.all_trials_failed):
        return ""
    if verdict is not None and not cell.baseline:
        incomplete = verdict.standing == "above" and not verdict.above_all
        signs = "≈" if incomplete else _STANDING[verdict.standing]
    if (advice.model, advice.method) == (cell.model, cell.method):
        signs += "*"
    return f"{signs}c" if is_mostly_collapsed(cell) and cell.interval else signs


_STANDING = {"above": "▲", "unclear": "≈", "below": "▼", "none": ""}
_OF_THE_MACHINE = ("environment", "wall_seconds")
"""Fields of a solo measurement that are no costs."""


def _write_run(record: Record, cell: Cell) -> FinalRun:
    result, outer = record.result, record.run.outer
    scores = result.get("scores") or {}
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
        wall_seconds=record.measured.get("wall_seconds"),
        curve=tuple(dict(point) for point in result.get("curve") or ()),
    )


def _score_run(record: Record, cell: Cell, part: str) -> Score | None:
    """Return a run's primary score with its interval over the examples of a part."""
    predictions = record.predictions.get(part)
    if predictions is None or not predictions.uid:
        return None
    return Score.read(score_interval([predictions], cell.metric))


def list_flags(cell: Cell, below_untuned: bool = False) -> Iterable[str]:
    """List remarks on a cell: ``collapsed 1/3``, ``selected on the test part``."""
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
    if cell.over_limit:
        yield "not trained further: exceeds a limit of the study"
    elif cell.final and total < cell.expected_runs:
        yield f"{total} of {cell.expected_runs} seeds so far"
    choice = cell.choice
    if choice.begun is not None:
        shared = ", chosen on rows that further folds test" if cell.folds else ""
        yield f"rate moved from {format_rate(choice.begun)}: {choice.reason}{shared}"
    elif choice.reason and len(choice.table) > 1:
        yield f"further rates tried, none better: {choice.reason}"
    if cell.selected_on_test:
        yield SELECTED_ON_TEST
    if cell.interval and cell.interval.examples_only and cell.draws_seeds:
        yield "one seed: interval over examples only"
    for record in cell.cost:
        if contradiction := record.measured.get("contradicted"):
            yield f"step time in doubt: {contradiction['ratio']:.1f} times that of its runs"
    if cell.other_settings:
        yield f"{pluralise(cell.other_settings, 'run')} of other settings or data not counted"


def summarise_cost(cell: Cell) -> CellCost:
    """Take the means over a cell's solo measurements; a cost that is not measured says why."""
    step = _summarise(cell, ("step_seconds", "median"), format_seconds)
    if step.value is not None and len(cell.cost) == 1:
        quartiles = cell.cost[0].measured["step_seconds"]
        if quartiles is not None:
            text = format_seconds(step.value, quartiles["q1"], quartiles["q3"])
            step = Amount(value=step.value, text=text)
    memory = _summarise(cell, ("phases", "train", "peak_bytes"), format_bytes)
    # Of what is not measured, as the recommendation counts it.
    predicted = None if cell.cost else estimate_cost(cell, "memory")
    if predicted is not None:
        text = f"~{format_bytes(predicted.value)}"
        memory = Amount(value=predicted.value, text=text, predicted=True)
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
        memory=memory,
        step=step,
        trained=Amount(
            value=count, text=trains_none if count is None else format_parameters(count)
        ),
        saved=_summarise(cell, ("saved_bytes",), format_bytes),
        evaluation=_summarise(cell, ("phases", "evaluation", "peak_bytes"), format_bytes),
        latency=_summarise(cell, ("inference", "unmerged_seconds_per_example"), format_seconds),
        conditions=sanitise_line(", ".join(conditions)),
        counter=sanitise_line(str(last.get("peak_counter", ""))),
        of_runs=cell.judged is not None,
    )


_NOT_MEASURED = {
    "out_of_memory": "the measurement ran out of memory",
    "error": "the measurement stopped with an error",
}


def _summarise(cell: Cell, key: tuple[str, ...], format_: Callable[[float], str]) -> Amount:
    if cell.model == NO_MODEL:
        return Amount(value=None, text="trains no model")
    values = []
    for record in cell.cost:
        value: Any = record.measured
        for part in key:
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            values.append(float(value))
    if not values:
        reason = "the files do not say it" if cell.judged else "no solo measurement yet"
        if cell.cost and not cell.judged:
            last: Record = cell.cost[-1]
            stored: Mapping[str, str] = last.measured.get("not_measured", {})
            # The most specific first: phases.train.peak_bytes, phases.train, phases; peak_bytes.
            names = [n for d in range(len(key), 0, -1) for n in (".".join(key[:d]), key[d - 1])]
            reasons = [stored[name] for name in names if stored.get(name)]
            reason = _NOT_MEASURED.get(last.outcome) or next(map(sanitise_line, reasons), "")
            reason = reason or "the measurement does not have it"
        return Amount(value=None, text=f"not measured: {reason}")
    mean = float(np.mean(values))
    if len(values) == 1:
        return Amount(value=mean, text=format_(mean))
    low, high = min(values), max(values)
    text = f"{format_(mean)} ({format_(low)} to {format_(high)})"
    return Amount(value=mean, text=text, low=low, high=high)
