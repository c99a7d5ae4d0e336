"""A report as plain values: what every output shows, and nothing that depends on its form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from paretune import metrics
from paretune.analysis.baseline_comparison import Verdict
from paretune.analysis.cells import NO_MODEL, Cell, group_into_cells
from paretune.analysis.learning_check import is_mostly_collapsed, rate_edge_of
from paretune.analysis.pairwise_comparisons import PairwiseComparisons
from paretune.analysis.pairwise_ranks import Pair, RankRange
from paretune.analysis.pareto.recommend import recommend
from paretune.analysis.primary_metric import find_primary_metric
from paretune.analysis.statistics.score_interval import Interval
from paretune.planning.presets import load_preset
from paretune.reporting.figures.pareto import ParetoTable, build_pareto_table
from paretune.reporting.tables.cost_columns import Cost, CostTable, build_cost_table, summarise_cost
from paretune.reporting.tables.translation import Grid, build_translation_grids
from paretune.reporting.text import conclusions
from paretune.reporting.text.formatting import format_examples, format_rate, join_names, pluralise
from paretune.reporting.text.interval_caveats import find_interval_caveats
from paretune.reporting.text.recommendation import Advice, write_advice
from paretune.reporting.text.run_metadata import (
    Failure,
    collect_environment,
    collect_failures,
    collect_notes,
    format_settings,
)
from paretune.store.record import UNSCORED_OUTCOMES, Record
from paretune.store.status import RunStatus
from paretune.study import Study, TaskSpec
from paretune.terminal.sanitise import sanitise_line

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip


class Finding(Protocol):
    """What the audit found, as :class:`paretune.data.finding.Finding`."""

    @property
    def severity(self) -> str:
        """``error``, ``warning`` or ``note``."""

    @property
    def code(self) -> str:
        """The kind of finding."""

    @property
    def where(self) -> str:
        """File and line."""

    @property
    def what(self) -> str:
        """What was found, as a sentence."""

    @property
    def remedy(self) -> str:
        """What the user can do."""


@dataclass(frozen=True)
class Row:
    """One cell as shown. ``verdict`` is None where there is no score, or for a bare baseline.

    ``title`` is how sentences call it: ``lora on e5-small``, or ``lora`` where there is one model.
    ``below_untuned``: a translation clearly worse than the untuned model's. ``rank``: the ranks
    that it may have among the methods of its model; None for baselines.
    """

    cell: Cell
    title: str
    cost: Cost
    verdict: Verdict | None
    flags: tuple[str, ...]
    below_untuned: bool = False
    rank: RankRange | None = None

    @property
    def method(self) -> str:
        """Printable name of the method."""
        return sanitise_line(self.cell.method)

    @property
    def model(self) -> str:
        """Printable name of the model."""
        return sanitise_line(self.cell.model)

    @property
    def collapsed(self) -> bool:
        """At least half of the scored seeds answered a constant."""
        return is_mostly_collapsed(self.cell)

    @property
    def rate(self) -> str:
        """The learning rate with its marks, in words."""
        marks = ["runner-up close"] if self.cell.undecided else []
        marks += [f"{end} tried"] if (end := rate_edge_of(self.cell)) else []
        text = format_rate(self.cell.rate)
        return f"{text} ({', '.join(marks)})" if marks else text


@dataclass(frozen=True)
class ModelPairs:
    """Every pair of methods and baselines on one model."""

    model: str
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class TaskReport:
    """One task: methods and baselines, and what may be concluded.

    ``constant_score`` is the score of the constant answer, the baseline ``majority``; None before
    it ran, and where answers are no classes. ``languages`` are a translation's, from and into.
    ``highest`` is what its score can come up to; ``build_translation_grids`` are the further tables
    of a translation.
    ``write_advice`` is what to take without a budget; ``front`` is None while too little is
    measured.
    """

    key: str
    metric: str
    rows: tuple[Row, ...]
    baselines: tuple[Row, ...]
    constant_score: Interval | None
    sentences: tuple[str, ...]
    basis: str
    decisions: PairwiseComparisons
    highest: float = 1.0
    translates: bool = False
    languages: tuple[str, str] = ("", "")
    grids: tuple[Grid, ...] = ()
    advice: Advice | None = None
    front: ParetoTable | None = None
    pairs: tuple[ModelPairs, ...] = ()

    @property
    def all_rows(self) -> tuple[Row, ...]:
        """Methods first, then baselines."""
        return (*self.rows, *self.baselines)

    @property
    def tuned_rows(self) -> tuple[Row, ...]:
        """Rows whose learning rate was chosen among several, or could not be."""
        return tuple(row for row in self.all_rows if row.cell.choice.table)

    @property
    def measured_rows(self) -> tuple[Row, ...]:
        """Rows with a cost measurement."""
        return tuple(row for row in self.all_rows if row.cell.cost)

    @property
    def costs(self) -> CostTable:
        """Costs of :attr:`weighed`."""
        return build_cost_table([row.cost for row in self.measured_rows])

    @property
    def other_costs(self) -> CostTable:
        """Costs of :attr:`weighed` that do not stand beside the front already."""
        return build_cost_table(
            [row.cost for row in self.measured_rows], ("evaluation", "step", "energy")
        )

    @property
    def selected_on_test(self) -> bool:
        """The paper's way: what is reported also selected the checkpoint."""
        return any(row.cell.selected_on_test for row in self.all_rows)

    @property
    def has_clear_winner(self) -> bool:
        """Whether a method is clearly above every baseline."""
        return any(row.verdict.above_all for row in self.rows if row.verdict is not None)

    @property
    def further_sentences(self) -> tuple[str, ...]:
        """The sentences that the advice before them has not said already."""
        if self.advice is None or not self.advice.take:
            return self.sentences
        if self.has_clear_winner:
            return tuple(
                conclusions.write_further_conclusions(
                    self.rows, self.baselines, self.decisions, self.advice.take
                )
            )
        return self.sentences[1:]

    @property
    def has_advice(self) -> bool:
        """Whether the advice says something: there are scores."""
        return self.advice is not None and any(row.cell.interval for row in self.all_rows)

    @property
    def conditions(self) -> str:
        """How costs were measured; where probes differ, whose was which."""
        found: dict[str, list[str]] = {}
        for row in self.measured_rows:
            found.setdefault(row.cost.conditions, []).append(row.title)
        if not self.conditions_differ:
            return "".join(found)
        return "; ".join(f"{join_names(of)}: {how}" for how, of in found.items())

    @property
    def conditions_differ(self) -> bool:
        """Whether some costs were measured otherwise than others."""
        return len({row.cost.conditions for row in self.measured_rows}) > 1

    @property
    def interval_scope(self) -> str:
        """What the intervals of the methods' scores are over."""
        seeds = {row.cell.interval.n_seeds for row in self.rows if row.cell.interval}
        return "examples (one seed)" if seeds == {1} else "seeds and examples"

    @property
    def memory_counters(self) -> tuple[str, ...]:
        """What the peaks of memory were read from."""
        return tuple(dict.fromkeys(r.cost.counter for r in self.measured_rows if r.cost.counter))


@dataclass(frozen=True)
class Report:
    """Everything that a report shows.

    ``ended_runs`` have ended, ``waiting_runs`` have not; ``date`` is the day on which the last of
    them ended.
    """

    name: str
    study_hash: str
    protocol: str
    tasks: tuple[TaskReport, ...]
    unfinished: tuple[str, ...]
    failures: tuple[Failure, ...]
    departures: tuple[str, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    settings: str
    ended_runs: int
    waiting_runs: int = 0
    date: str = ""

    @property
    def audit_summary(self) -> str:
        """``2 warnings``: what the audit found that is more than a note; empty for nothing."""
        counts = Counter(finding.severity for finding in self.findings)
        said = [pluralise(counts[s], s) for s in ("error", "warning") if counts[s]]
        return join_names(said)


def build_report(
    study: Study,
    records: Sequence[Record],
    states: Sequence[RunStatus] = (),
    findings: Iterable[Finding] = (),
) -> Report:
    """Gather records into cells, compare them with their baselines and say what follows.

    Args:
        study: what was asked for; cells are shown in its order.
        records: ended runs with their predictions.
        states: how all runs stand, for what is unfinished.
        findings: what the audit found in the study's data.
    """
    cells = group_into_cells(study, records, states)
    metrics_known = {
        t.key: find_primary_metric(
            [r for c in cells if c.task == t.key for r in c.final + c.tuning]
        )
        for t in study.tasks
    }
    unknown = [
        f"{key}: the primary score in the records is none that the report knows; "
        f"{metrics.get(next(c.metric for c in cells if c.task == key)).title} is shown."
        for key, metric in metrics_known.items()
        if metric is None and any(c.task == key and c.bootstrap for c in cells)
    ]
    tasks = tuple(
        _task(t, [c for c in cells if c.task == t.key], i) for i, t in enumerate(study.tasks)
    )
    preset = load_preset(study.protocol.preset)
    return Report(
        name=sanitise_line(study.study),
        study_hash=study.study_hash,
        protocol=conclusions.describe_protocol(study),
        tasks=tasks,
        unfinished=tuple(conclusions.describe_unfinished(c) for c in cells if not c.finished),
        failures=tuple(collect_failures(cells)),
        departures=preset.departures() if preset else (),
        findings=tuple(findings),
        notes=(*unknown, *find_interval_caveats(cells), *collect_notes(cells)),
        environment=tuple(collect_environment(records)),
        settings=format_settings(study),
        ended_runs=len(records),
        waiting_runs=sum(not state.ended for state in states),
        date=_date(states),
    )


def _date(states: Sequence[RunStatus]) -> str:
    """``26 November 2026``: when the last run ended (UTC); empty where that is not known."""
    ended = max((s.ended_at for s in states if s.ended_at is not None), default=None)
    if ended is None:
        return ""
    day = datetime.fromtimestamp(ended, UTC)
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def _task(task: TaskSpec, cells: Sequence[Cell], index: int) -> TaskReport:
    key = sanitise_line(task.key)
    decided = PairwiseComparisons(cells)
    ranks = {
        (model, method): rank
        for model in dict.fromkeys(c.model for c in cells)
        for method, rank in decided.ranks(model).items()
    }
    rows = [_row(cell, cells, decided, ranks.get((cell.model, cell.method))) for cell in cells]
    methods = tuple(r for r in rows if not r.cell.baseline)
    baselines = tuple(r for r in rows if r.cell.baseline)
    basis = _basis([row for row in rows if not row.cell.deterministic])
    if any(cell.selected_on_test for cell in cells):
        basis.append(conclusions.SELECTED_ON_TEST)
    return TaskReport(
        key=key,
        metric=metrics.get(cells[0].metric).title,
        rows=methods,
        baselines=baselines,
        constant_score=_constant(baselines),
        sentences=tuple(conclusions.write_conclusions(key, methods, baselines, decided)),
        basis=", ".join(basis),
        decisions=decided,
        highest=metrics.get(cells[0].metric).highest,
        translates=task.is_translation,
        languages=(task.source_lang or "", task.target_lang or ""),
        grids=build_translation_grids(task, (*methods, *baselines)),
        advice=write_advice(recommend(cells, comparisons=decided)),
        front=build_pareto_table(
            (*methods, *baselines), index, metrics.get(cells[0].metric).highest
        ),
        pairs=tuple(
            ModelPairs(sanitise_line(model), pairs)
            for model in dict.fromkeys(c.model for c in cells if c.model != NO_MODEL)
            if (pairs := decided.pairs(model))
        ),
    )


def _constant(baselines: Sequence[Row]) -> Interval | None:
    found = next((row.cell for row in baselines if row.cell.name == "majority"), None)
    # Of numbers it is their mean, which is no class and stands there as a baseline like others.
    return None if found is None or metrics.get(found.metric).credit is None else found.interval


def _basis(rows: Sequence[Row]) -> list[str]:
    """``56 test examples``, ``2 to 3 seeds``: of what the task's scores are."""
    found = [row.cell.interval for row in rows if row.cell.interval]
    if not found:
        return []
    fewest, most = (pick(i.n_seeds for i in found) for pick in (min, max))
    seeds = pluralise(most, "seed")
    return [
        format_examples(found[0], "test "),
        seeds if fewest == most else f"{fewest} to {seeds}",
    ]


def _row(
    cell: Cell, beside: Sequence[Cell], decided: PairwiseComparisons, rank: RankRange | None
) -> Row:
    several = len({other.model for other in beside} - {NO_MODEL}) > 1
    alone = cell.model == NO_MODEL or not several
    title = cell.method if alone else f"{cell.method} on {cell.model}"
    verdict = decided.verdict(cell, sanitise_line)
    untuned = {sanitise_line(other.method) for other in beside if other.name == "untuned"}
    loses = verdict is not None and any(
        one.baseline in untuned and one.standing == "below" for one in verdict.comparisons
    )
    flags = [*(["loses what the base model knows"] if loses else []), *_flags(cell)]
    return Row(
        cell,
        sanitise_line(title),
        summarise_cost(cell),
        verdict,
        tuple(flags),
        loses,
        rank,
    )


def _flags(cell: Cell) -> Iterable[str]:
    total = len(cell.final)
    if cell.name == "majority":
        yield "constant by design"
    for outcome in (
        UNSCORED_OUTCOMES if cell.name == "majority" else ("collapsed", *UNSCORED_OUTCOMES)
    ):
        if count := cell.outcomes.get(outcome, 0):
            yield f"{outcome.replace('_', ' ')} {count}/{total}"
    if cell.all_trials_failed:
        yield "no rate could be trained"
    if cell.final and total < cell.expected_runs:
        yield f"{total} of {cell.expected_runs} seeds so far"
    if cell.selected_on_test:
        yield conclusions.SELECTED_ON_TEST
    if cell.interval and cell.interval.examples_only and not cell.deterministic:
        yield "one seed: interval over examples only"
    for record in cell.cost:
        if found := record.measured.get("contradicted"):
            yield f"step in doubt: {found['ratio']:.1f} times its own runs'"
    if cell.other_settings:
        yield f"{pluralise(cell.other_settings, 'run')} of other settings or data left out"
