"""A study and its tasks as parts of the report's document, and what renderers read of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from paretune.analysis.over_tasks import OverTasks
from paretune.data.finding import Finding
from paretune.errors import StoreError
from paretune.files import write_atomically
from paretune.reporting.parts import (
    WITH_PROPERTIES,
    Advice,
    CellReport,
    CostFront,
    Disagreement,
    Limit,
    NextSteps,
    PairDifference,
    Part,
)
from paretune.reporting.table import Table
from paretune.reporting.text.formatting import format_bytes, format_interval, join_names
from paretune.study import NO_MODEL
from paretune.terminal.plural import pluralise


class ModelSize(Part):
    """Size of one model."""

    model: str = Field(description="the model")
    parameters: float = Field(description="parameters, head included")
    source: str = Field(description="from what they were counted")


class TaskReport(Part):
    """One task: methods and baselines, and what may be concluded."""

    key: str = Field(description="name of the task")
    metric: str = Field(description="its primary metric: accuracy, macro_f1, bleu ...")
    metric_title: str = Field(description="the metric's name in words")
    highest: Limit = Field(description="highest possible score: 1, of BLEU and chrF 100")
    basis: str = Field(description="what its scores are computed on: 56 test examples, 3 seeds")
    generates: bool = Field(description="true: answers are generated texts")
    selected_on_test: bool = Field(description="true: checkpoints were selected on the test part")
    sentences: tuple[str, ...] = Field(
        description="what may be concluded beside the recommendation"
    )
    advice: Advice | None = Field(description="what to take without a budget")
    cells: tuple[CellReport, ...] = Field(
        description="one for each model and method, baselines last"
    )
    fronts: tuple[CostFront, ...] = Field(
        description="score over each known cost; empty: fewer than two configurations have both"
    )
    pairs: tuple[PairDifference, ...] = Field(description="every pair on a model")
    tables: tuple[Table, ...] = Field(
        description="further measures: translations or metrics, classes, shifted, forgetting, "
        "predictions, and those of plug-ins"
    )
    model_sizes: tuple[ModelSize, ...] = Field(description="of models whose size is known")
    next_steps: NextSteps | None = Field(
        description="what to do next; null: no method has a score, or it was trained elsewhere"
    )
    disagreement: Disagreement | None = Field(
        description="labels or generated texts, example by example; null: other answers"
    )
    rival: str = Field(
        default="baseline",
        description="what verdicts compare a method with: baseline; where there is none, other "
        "method or other model",
    )

    @property
    def methods(self) -> tuple[CellReport, ...]:
        """Cells under comparison."""
        return tuple(cell for cell in self.cells if not cell.baseline)

    @property
    def baselines(self) -> tuple[CellReport, ...]:
        """Cells beside them."""
        return tuple(cell for cell in self.cells if cell.baseline)

    @property
    def measured_cells(self) -> tuple[CellReport, ...]:
        """Cells with a cost measurement."""
        return tuple(cell for cell in self.cells if cell.costs)

    @property
    def conditions(self) -> str:
        """How costs were measured; where measurements differ, the cells of each."""
        titles: dict[str, list[str]] = {}
        for cell in self.measured_cells:
            titles.setdefault(cell.cost.conditions, []).append(cell.title)
        if len(titles) < 2:
            return "".join(titles)
        return "; ".join(f"{join_names(of)}: {conditions}" for conditions, of in titles.items())

    @property
    def interval_scope(self) -> str:
        """The sources of chance that the intervals of the methods' scores cover."""
        scores = [cell.score for cell in self.methods if cell.score]
        if any(score.design.is_cross_validation for score in scores):
            return "rows and training sets"
        seeds = {score.n_seeds for score in scores}
        return "examples (one seed)" if seeds == {1} else "seeds and examples"

    def describe_measurements(self) -> str:
        """Say how costs were measured, without a full stop."""
        if any(cell.cost.of_runs for cell in self.cells):
            return "As the files say of the runs"
        return "One solo measurement each, in a fresh process"

    def find_table(self, name: str) -> Table | None:
        """Return the table of this name among :attr:`tables`."""
        return next((table for table in self.tables if table.name == name), None)


class OverTasksLine(Part):
    """A method beside a reference over all tasks; points are hundredths of the highest value."""

    comparison: Annotated[OverTasks, WITH_PROPERTIES] = Field(
        description="method minus reference, p_holm corrected over all of over_tasks"
    )
    pair: str = Field(description="the two in words")
    difference: str = Field(description="the difference in words")
    verdict: str = Field(description="better, worse, or undecided and why")
    by_task: str = Field(description="each task with its difference")
    further: str = Field(description="how effects differ between tasks, and what failed")
    is_main: bool = Field(description="true: beside the method that trains the most")

    @property
    def sentence(self) -> str:
        """``LoRA against BitFit on 4 tasks: +1.2 points [-0.5, +2.9], undecided``."""
        tasks = pluralise(len(self.comparison.effects), "task")
        return f"{self.pair} on {tasks}: {self.difference}, {self.verdict}"


class LabelledRows(Part):
    """Methods on shares of the labelled rows."""

    sentence: str = Field(
        description="from how many labelled rows on the reference, or else the first method, is "
        "proven better than each baseline"
    )
    least: Table = Field(
        description="by pair and task, the smallest number of labelled rows from which on the "
        "first is proven better"
    )
    differences: Table = Field(
        description="pairs of each task, and over all tasks, by the number of labelled rows"
    )
    scores: Table = Field(description="the score of each method on each number of labelled rows")


class Failure(Part):
    """Runs of one cell and stage that ended without a score, with the same message."""

    where: str = Field(description="task / model / method, stage")
    outcome: str = Field(description="diverged, out of memory or error")
    runs: int = Field(description="how many")
    message: str = Field(description="their message")


FINAL_RUNS = " final runs"
"""Titles of counts that end so may be joined on a terminal."""


class HealthItem(Part):
    """One count on the study."""

    title: str = Field(description="what is counted")
    text: str = Field(description="the count")
    alarm: bool = Field(default=False, description="true: it needs attention")


class StudyReport(Part):
    """The study itself."""

    name: str = Field(description="its name")
    title: str = Field(default="", description="the question that it is headed by; empty: none")
    hash: str = Field(
        description="hash of its canonical form, its key in the store; where judged, of the runs"
    )
    protocol: str = Field(description="how the scores were obtained, as a sentence")
    settings: dict[str, Any] = Field(description="the study with all defaults")
    yaml: str = Field(description="the same as YAML")
    runs: int = Field(description="number of ended runs")
    waiting: int = Field(description="number of runs that have not ended")
    ended_at: float | None = Field(
        description="when the last run ended, in seconds since 1970; null: not known"
    )
    date: str = Field(description="its day; empty: not known")
    departures: tuple[str, ...] = Field(
        description="where the paper's preset departs from the paper, as sentences"
    )
    judged: bool = Field(
        default=False, description="true: its runs were trained elsewhere, and only judged here"
    )
    scope: str = Field(
        default="", description="what its intervals and claims leave out; empty: nothing of note"
    )


FORMAT = 6
"""Incremented when a field is removed or changes its meaning, not when fields are added."""


class Document(Part):
    """The document of a study, which every renderer reads."""

    format: int = Field(default=FORMAT, description=f"version of this form: {FORMAT}")
    paretune: str = Field(
        default_factory=lambda: version("paretune"),
        description="version of the program that wrote it",
    )
    study: StudyReport = Field(description="the study")
    sentence: str = Field(description="the result over all tasks; empty: nothing to say yet")
    health: tuple[HealthItem, ...] = Field(description="how the study stands")
    facts: tuple[tuple[str, str], ...] = Field(description="model, machine and date, by title")
    signs: dict[str, str] = Field(description="meanings of the signs that occur")
    tasks: tuple[TaskReport, ...] = Field(description="in the study's order")
    over_tasks: tuple[OverTasksLine, ...] = Field(description="methods compared over all tasks")
    labelled_rows: LabelledRows | None = Field(
        default=None,
        description="methods by the number of labelled rows (protocol.rows); null: the study does "
        "not compare any on shares of them",
    )
    failures: tuple[Failure, ...] = Field(
        description="runs that diverged, did not fit or stopped, by cell and stage"
    )
    unfinished: tuple[str, ...] = Field(description="cells that are not finished, a line each")
    findings: tuple[Finding, ...] = Field(description="findings of the data audit")
    notes: tuple[str, ...] = Field(description="notes of the runs, a line each")
    environment: dict[str, str] = Field(
        description="versions and machine; several values where runs come from several machines"
    )


def write_file(path: Path, content: str | bytes, what: str) -> Path:
    """Write a file; its folder is created if it is missing.

    Args:
        content: text is written as UTF-8.
        what: what the file is, for the error: ``the page``.

    Raises:
        StoreError: it cannot be written there; an old file stays as it is.
    """
    try:
        write_atomically(path, content)
    except OSError as error:
        raise StoreError(
            f"{what} cannot be written ({error.strerror}).",
            where=str(path),
            remedy="Name another file or free some space.",
        ) from None
    return path


@dataclass(frozen=True)
class OverviewRow:
    """One method on all tasks; ``memory``: its highest peak in training, or in evaluation."""

    model: str
    method: str
    baseline: bool
    cells: tuple[CellReport | None, ...]
    memory: str

    @property
    def has_model(self) -> bool:
        """Whether the row is of a model; some baselines are of none."""
        return self.model != NO_MODEL.key


def list_rows(tasks: Sequence[TaskReport]) -> tuple[OverviewRow, ...]:
    """Every method and baseline with an ended run on any task, in the study's order."""
    by_configuration: dict[tuple[str | None, str], dict[str, CellReport]] = {}
    for task in tasks:
        for cell in task.cells:
            by_configuration.setdefault((cell.model, cell.method), {})[task.key] = cell
    # Model by model; baselines without a model last, since they belong to every model.
    models = list(dict.fromkeys(model for model, _ in by_configuration if model is not None))
    order = {model: place for place, model in enumerate((*models, None))}
    rows = []
    for (model, _), by_task in sorted(by_configuration.items(), key=lambda i: order[i[0][0]]):
        first = next(iter(by_task.values()))
        ended = tuple(c if (c := by_task.get(t.key)) and c.has_ended else None for t in tasks)
        costs = [cell.cost for cell in by_task.values()]
        needs = [c.evaluation if c.trained.value == 0 else c.memory for c in costs]
        peaks = [need.value for need in needs if need.value is not None]
        unknown = "" if model is None or any(cost.of_runs for cost in costs) else "–"
        memory = format_bytes(max(peaks)) if peaks else unknown
        if peaks and any(need.predicted for need in needs):
            memory = f"~{memory}"
        if any(ended):
            rows.append(
                OverviewRow(model or NO_MODEL.key, first.label, first.baseline, ended, memory)
            )
    return tuple(rows)


def name_rivals(texts: Mapping[str, str], tasks: Sequence[TaskReport]) -> dict[str, str]:
    """Texts with what verdicts compare a method with in place of ``{rival}`` and ``{a_rival}``."""
    rival = next((task.rival for task in tasks), "baseline")
    a_rival = f"an{rival}" if rival.startswith("other") else f"a {rival}"
    return {key: text.format(rival=rival, a_rival=a_rival) for key, text in texts.items()}


def format_cell_score(cell: CellReport) -> str:
    """``0.71 [0.60, 0.82]``."""
    return format_interval(cell.score) if cell.score else "no score"


def list_score_bases(tasks: Sequence[TaskReport]) -> tuple[str, ...]:
    """Name metric and basis of the scores, once where all tasks have the same."""
    tasks_by_basis: dict[str, list[str]] = {}
    for task in tasks:
        if task.basis:
            tasks_by_basis.setdefault(f"{task.metric_title}, {task.basis}", []).append(task.key)
    if len(tasks_by_basis) == 1:
        return tuple(tasks_by_basis)
    return tuple(f"{', '.join(keys)}: {basis}" for basis, keys in tasks_by_basis.items())
