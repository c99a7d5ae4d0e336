"""A report as plain values: every number and sentence that any output shows, and no layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from paretune.analysis.cell import NO_MODEL
from paretune.analysis.statistics.intervals import Interval
from paretune.errors import MissingDependencyError
from paretune.reporting.rows import Grid, ModelPairs, Row
from paretune.reporting.tables.cost_columns import CostTable, build_cost_table
from paretune.reporting.tables.disagreement import Disagreement
from paretune.reporting.tables.likelihood_table import LikelihoodReport
from paretune.reporting.tables.model_sizes import ModelSizes
from paretune.reporting.tables.over_tasks_table import OverTasksLine
from paretune.reporting.tables.pareto_table import ParetoTable
from paretune.reporting.tables.segment_differences import SegmentDifferences
from paretune.reporting.text.formatting import join_names
from paretune.reporting.text.recommendation import Advice
from paretune.reporting.text.run_metadata import Failure
from paretune.terminal.plural import pluralise


class Finding(Protocol):
    """A finding of the data audit, as :class:`paretune.data.finding.Finding`."""

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
class TaskReport:
    """One task: methods and baselines, and what may be concluded.

    Attributes:
        metric: title of the primary metric.
        constant_score: score of the constant answer (the baseline ``majority``); None before it
            ran, and where answers are no classes.
        sentences: conclusions on the task.
        further_sentences: those that :attr:`advice` does not contain already.
        basis: what the scores are computed on: ``56 test examples, 3 seeds``.
        highest: highest possible score.
        languages: source and target of a translation; empty otherwise.
        grids: further tables of a translation.
        advice: what to take without a budget.
        pareto: None while fewer than two configurations have a score and a cost.
        memory_table: bytes by part; None where no part was counted.
        prediction_error: predicted and measured costs; None where nothing could be predicted.
        model_sizes: None unless a method has scores on two models of known size.
        disagreement: of labels, example by example; None of other answers.
        segments: of translations, segment by segment; None of other tasks.
        likelihood: of the right answers, a verdict of its own; None where no cell has one.
        forgetting: token losses before and after training; None where nothing measured them.
        search: what searches found; None where the study has none.
        search_front: their trials' front, and what mattered; None where too few can be read.
        shifted: scores on the shifted test part; None where the task has none.
    """

    key: str
    metric: str
    rows: tuple[Row, ...]
    baselines: tuple[Row, ...]
    constant_score: Interval | None
    sentences: tuple[str, ...]
    further_sentences: tuple[str, ...]
    basis: str
    highest: float = 1.0
    generates: bool = False
    languages: tuple[str, str] = ("", "")
    grids: tuple[Grid, ...] = ()
    advice: Advice | None = None
    pareto: ParetoTable | None = None
    pairs: tuple[ModelPairs, ...] = ()
    memory_table: Grid | None = None
    prediction_error: Grid | None = None
    model_sizes: ModelSizes | None = None
    disagreement: Disagreement | None = None
    segments: SegmentDifferences | None = None
    likelihood: LikelihoodReport | None = None
    shifted: Grid | None = None
    search: Grid | None = None
    search_front: Grid | None = None
    forgetting: Grid | None = None

    @property
    def all_rows(self) -> tuple[Row, ...]:
        """Methods first, then baselines."""
        return (*self.rows, *self.baselines)

    @property
    def tuned_rows(self) -> tuple[Row, ...]:
        """Rows whose learning rate was selected among trials."""
        return tuple(row for row in self.all_rows if row.trials)

    @property
    def measured_rows(self) -> tuple[Row, ...]:
        """Rows with a cost measurement."""
        return tuple(row for row in self.all_rows if row.cell.cost)

    @property
    def costs(self) -> CostTable:
        """Costs of :attr:`measured_rows`."""
        return build_cost_table([row.cost for row in self.measured_rows])

    @property
    def other_costs(self) -> CostTable:
        """Costs of :attr:`measured_rows` that :attr:`pareto` does not have."""
        return build_cost_table(
            [row.cost for row in self.measured_rows], ("evaluation", "step", "energy")
        )

    @property
    def selected_on_test(self) -> bool:
        """Whether checkpoints were selected on the part that is reported."""
        return any(row.cell.selected_on_test for row in self.all_rows)

    @property
    def has_scores(self) -> bool:
        """Whether any cell has a score."""
        return any(row.interval for row in self.all_rows)

    @property
    def conditions(self) -> str:
        """How costs were measured; where measurements differ, the rows of each."""
        titles: dict[str, list[str]] = {}
        for row in self.measured_rows:
            titles.setdefault(row.cost.conditions, []).append(row.title)
        if not self.conditions_differ:
            return "".join(titles)
        return "; ".join(f"{join_names(of)}: {conditions}" for conditions, of in titles.items())

    @property
    def conditions_differ(self) -> bool:
        """Whether costs were measured under different conditions."""
        return len({row.cost.conditions for row in self.measured_rows}) > 1

    @property
    def interval_scope(self) -> str:
        """What the intervals of the methods' scores are over."""
        intervals = [row.interval for row in self.rows if row.interval]
        if any(interval.design.is_cross_validation for interval in intervals):
            return "rows and training sets"
        seeds = {interval.n_seeds for interval in intervals}
        return "examples (one seed)" if seeds == {1} else "seeds and examples"

    @property
    def memory_counters(self) -> tuple[str, ...]:
        """What the memory peaks were read from."""
        return tuple(dict.fromkeys(r.cost.counter for r in self.measured_rows if r.cost.counter))


_MOST_TASKS = 20
"""Lines of tasks in the text of a report."""


@dataclass(frozen=True, repr=False)
class Report:
    """All of a study.

    Attributes:
        protocol: how the scores were obtained, as a sentence.
        settings: the study as YAML, defaults included.
        study_settings: the study in its canonical form.
        ended_runs: number of runs that have ended; ``waiting_runs`` have not.
        date: the day on which the last of them ended; empty where it is not known.
        ended_at: that moment, in seconds since 1970.
        over_tasks: methods compared over all tasks; empty with one task.
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
    study_settings: Mapping[str, Any]
    ended_runs: int
    waiting_runs: int = 0
    date: str = ""
    over_tasks: tuple[OverTasksLine, ...] = ()
    ended_at: float | None = None

    def __repr__(self) -> str:
        """The name, and what to take on each task, on one screen."""
        runs = f"{self.ended_runs:,} of {self.ended_runs + self.waiting_runs:,} runs ended"
        lines = [task.advice.lines[0] for task in self.tasks if task.advice is not None]
        if len(lines) > _MOST_TASKS:
            more = pluralise(len(lines) - _MOST_TASKS, "more task")
            lines = [*lines[:_MOST_TASKS], f"... and {more}"]
        return "\n".join([f"{self.name}: {runs}", *lines])

    def _repr_html_(self) -> str:
        from paretune.reporting.notebook import render_report

        return render_report(self)

    def to_pandas(self) -> Any:
        """A pandas DataFrame with a row for each method and baseline, by task and model.

        Its columns: ``task``, ``model``, ``method``, ``baseline``, ``metric``, ``score`` with
        ``low`` and ``high`` (95 % interval), ``examples``, ``seeds``, ``standing`` (the verdict),
        ``rate``; costs of one run: ``seconds`` (median), ``peak_bytes`` and ``step_seconds``
        (measured alone), ``trained_parameters``, ``saved_bytes``. What is not known is missing.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise MissingDependencyError(
                "to_pandas needs pandas, which is not installed.",
                remedy="Install it: pip install pandas",
            ) from None
        return pandas.DataFrame(
            [_tabulate(task, row) for task in self.tasks for row in task.all_rows]
        )

    @property
    def audit_summary(self) -> str:
        """``2 warnings``: findings of the audit that are more than a note; empty for none."""
        counts = Counter(finding.severity for finding in self.findings)
        return join_names([pluralise(counts[s], s) for s in ("error", "warning") if counts[s]])


def _tabulate(task: TaskReport, row: Row) -> dict[str, Any]:
    """One row as plain values."""
    cell, cost, score = row.cell, row.cost, row.interval
    return {
        "task": task.key,
        "model": None if cell.model == NO_MODEL else cell.model,
        "method": cell.method,
        "baseline": cell.baseline,
        "metric": cell.metric,
        "score": score and score.estimate,
        "low": score and score.low,
        "high": score and score.high,
        "examples": score and score.n_examples,
        "seeds": score and score.n_seeds,
        "standing": row.verdict and row.verdict.standing,
        "rate": cell.rate,
        "seconds": cell.run_seconds,
        "peak_bytes": cost.memory.value,
        "step_seconds": cost.step.value,
        "trained_parameters": cost.trained.value,
        "saved_bytes": cost.saved.value,
    }
