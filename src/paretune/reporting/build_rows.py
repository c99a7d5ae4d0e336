"""Rows of one task, with their statistics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.comparisons import PairwiseComparisons, Verdict
from paretune.analysis.learning_check import is_mostly_collapsed
from paretune.analysis.learning_rates import expected_best_scores, score_rates
from paretune.analysis.memory_breakdown import break_down_memory
from paretune.analysis.pairs import RankRange
from paretune.analysis.statistics.intervals import Interval, score_interval
from paretune.methods.baselines import CONSTANT, WITHOUT_TRAINING
from paretune.methods.core.titles import title_of
from paretune.objectives.readouts import by_language_model
from paretune.reporting.rows import RateTrial, Row, RunScores
from paretune.reporting.tables.cost_columns import summarise_cost
from paretune.reporting.text.conclusions import SELECTED_ON_TEST, describe_stop
from paretune.store.record import UNSCORED_OUTCOMES, Record
from paretune.study import Readout
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line


def build_rows(cells: Sequence[Cell], comparisons: PairwiseComparisons) -> tuple[Row, ...]:
    """A row for each cell of one task, in their order."""
    ranks = {
        (model, method): rank
        for model in dict.fromkeys(cell.model for cell in cells)
        for method, rank in comparisons.ranks(model).items()
    }
    builder = _RowBuilder(
        comparisons=comparisons,
        several_models=len({cell.model for cell in cells} - {NO_MODEL}) > 1,
        untuned=frozenset(sanitise_line(c.method) for c in cells if c.name == "untuned"),
        untrained=frozenset(sanitise_line(c.method) for c in cells if c.name in WITHOUT_TRAINING),
        usual_readouts=_find_usual_readouts(cells),
    )
    return tuple(builder.build(cell, ranks.get((cell.model, cell.method))) for cell in cells)


@dataclass(frozen=True)
class _RowBuilder:
    """``untuned``: printable names of the task's untuned models; ``untrained``: of all baselines
    that train nothing; ``usual_readouts``: by model.
    """

    comparisons: PairwiseComparisons
    several_models: bool
    untuned: frozenset[str]
    untrained: frozenset[str]
    usual_readouts: Mapping[str, Readout]

    def build(self, cell: Cell, rank: RankRange | None) -> Row:
        with_model = self.several_models and cell.model != NO_MODEL
        name = title_of(cell.method)
        title = f"{name} on {cell.model}" if with_model else name
        verdict = self.comparisons.verdict(cell, sanitise_line)
        below_untuned = self._is_below_untuned(verdict)
        rate_scores = score_rates(cell.tuning, cell.metric)
        tuned = bool(cell.choice.table)
        return Row(
            cell=cell,
            title=sanitise_line(title),
            interval=cell.interval,
            cost=summarise_cost(cell),
            memory=break_down_memory(cell.cost),
            verdict=verdict,
            flags=tuple(list_flags(cell, below_untuned)),
            trials=tuple(
                RateTrial(
                    rate=trial.rate,
                    score=score.interval(cell.metric)
                    if (score := rate_scores.get(trial.rate))
                    else None,
                    folds=trial.folds,
                    failed=trial.failed,
                )
                for trial in cell.choice.table
            ),
            expected_best=expected_best_scores(cell.tuning, cell.metric, rate_scores)
            if tuned
            else (),
            runs=tuple(
                RunScores(_score_run(r, cell, "test"), _score_run(r, cell, "selection"))
                for r in cell.final
            ),
            collapsed=is_mostly_collapsed(cell),
            below_untuned=below_untuned,
            not_above_untrained=self._not_above_untrained(cell, verdict),
            rank=rank,
            shortfall=self.comparisons.shortfall(cell),
            other_readout=self._other_readout(cell),
        )

    def _other_readout(self, cell: Cell) -> Readout | None:
        """None of the probe, which has no other readout, and of baselines without a model."""
        readout = cell.readout
        if readout in (None, self.usual_readouts[cell.model]) or cell.name == cell.objective.probe:
            return None
        return readout

    def _is_below_untuned(self, verdict: Verdict | None) -> bool:
        return verdict is not None and any(
            one.baseline in self.untuned and one.standing == "below" for one in verdict.comparisons
        )

    def _not_above_untrained(self, cell: Cell, verdict: Verdict | None) -> tuple[str, ...]:
        if cell.baseline or verdict is None:
            return ()
        # Worse than the untuned model is a sentence of its own.
        below_shots = {("below", name) for name in self.untrained - self.untuned}
        return tuple(
            one.baseline
            for one in verdict.comparisons
            if one.baseline in self.untrained
            and (one.standing == "unclear" or (one.standing, one.baseline) in below_shots)
        )


def _find_usual_readouts(cells: Sequence[Cell]) -> Mapping[str, Readout]:
    """How each model usually answers: without a head, where any of its cells shows that it can."""
    usual: dict[str, Readout] = {}
    for cell in cells:
        headless = by_language_model(cell.objective)
        if cell.readout in headless:
            usual[cell.model] = headless[0]
        usual.setdefault(cell.model, "head")
    return usual


def _score_run(record: Record, cell: Cell, part: str) -> Interval | None:
    """One run's primary score with its interval over the examples of a part."""
    predictions = record.predictions.get(part)
    if predictions is None or not predictions.uid:
        return None
    return score_interval([predictions], cell.metric)


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
    if cell.stop is not None:
        yield describe_stop(cell)
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
