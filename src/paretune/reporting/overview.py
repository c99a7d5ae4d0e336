"""A study on one screen: methods by tasks, one sentence, and the health of the study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from paretune.analysis.learning_check import is_mostly_collapsed
from paretune.methods.baselines import WITH_MODEL
from paretune.reporting.document import (
    DataFinding,
    HealthItem,
    Report,
    StudyReport,
    TaskReport,
    summarise_audit,
)
from paretune.reporting.parts import Advice, CellReport
from paretune.reporting.rows import Row
from paretune.reporting.text.formatting import (
    format_bytes,
    format_interval,
    format_parameters,
    join_names,
)
from paretune.store.record import UNSCORED_OUTCOMES
from paretune.terminal.notebook import html_block, html_lines, html_table
from paretune.terminal.plural import pluralise

SIGNS = {
    "▲": "better than every baseline",
    "≈": "undecided against a baseline",
    "▼": "worse than a baseline",
    "*": "the one to take",
    "c": "at least half of the seeds give every example the same answer",
    "–": "memory not measured",
}
_STANDING = {"above": "▲", "unclear": "≈", "below": "▼", "none": ""}
_MOST_NAMED = 4
"""More tasks than this are counted in the sentence, and not named."""


@dataclass(frozen=True)
class OverviewRow:
    """One method on all tasks; ``memory`` is its highest peak in training, of all tasks."""

    model: str
    method: str
    baseline: bool
    cells: tuple[CellReport | None, ...]
    memory: str


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
        cells = [by_task.get(task.key) for task in tasks]
        ended = tuple(cell if cell and cell.has_ended else None for cell in cells)
        peaks = [p for c in by_task.values() if (p := c.cost.memory.value) is not None]
        memory = format_bytes(max(peaks)) if peaks else "" if model is None else "–"
        if any(ended):
            rows.append(OverviewRow(model or "-", first.label, first.baseline, ended, memory))
    return tuple(rows)


def format_cell_score(cell: CellReport) -> str:
    """``0.71 [0.60, 0.82]``."""
    return format_interval(cell.score) if cell.score else "no score"


def find_signs(row: Row, advice: Advice) -> str:
    """The signs of a cell in the first table: those of :data:`SIGNS` but the last."""
    cell, verdict, signs = row.cell, row.verdict, ""
    if not (cell.final or cell.all_trials_failed):
        return ""
    if verdict is not None and not cell.baseline:
        incomplete = verdict.standing == "above" and not verdict.above_all
        signs = "≈" if incomplete else _STANDING[verdict.standing]
    if (advice.model, advice.method) == (cell.model, cell.method):
        signs += "*"
    return f"{signs}c" if is_mostly_collapsed(cell) and row.interval else signs


def explain_signs(tasks: Sequence[TaskReport]) -> dict[str, str]:
    """The signs that occur in the first table, with their meanings."""
    present = {sign for task in tasks for cell in task.cells for sign in cell.signs}
    present |= {row.memory for row in list_rows(tasks)}
    lost = any(
        "▲" in cell.signs and cell.verdict and cell.verdict.of_trained
        for task in tasks
        for cell in task.cells
    )
    return {
        sign: f"{text}, of runs that trained" if sign == "▲" and lost else text
        for sign, text in SIGNS.items()
        if sign in present
    }


def list_score_bases(tasks: Sequence[TaskReport]) -> tuple[str, ...]:
    """Metric and basis of the scores; once for all tasks where they are the same."""
    tasks_by_basis: dict[str, list[str]] = {}
    for task in tasks:
        if task.basis:
            tasks_by_basis.setdefault(f"{task.metric_title}, {task.basis}", []).append(task.key)
    if len(tasks_by_basis) == 1:
        return tuple(tasks_by_basis)
    return tuple(f"{', '.join(keys)}: {basis}" for basis, keys in tasks_by_basis.items())


def write_sentence(tasks: Sequence[TaskReport]) -> str:
    """The result of the study, over all its tasks, in one sentence."""
    if len(tasks) == 1:
        return tasks[0].advice.headline if tasks[0].advice else ""
    by_kind: dict[str, list[TaskReport]] = {}
    for task in tasks:
        if task.advice is not None:
            by_kind.setdefault(task.advice.kind if task.has_scores else "", []).append(task)
    clauses = []
    if of_kind := by_kind.get("method"):
        clauses.append(f"take {_join_recommended(of_kind)}: proven better than every baseline")
    if of_kind := by_kind.get("guess"):
        clauses.append(f"the best guess is {_join_recommended(of_kind)}: not proven")
    for kind, clause in (
        ("baseline", "no method scores above the baselines on"),
        ("none", "nothing can be recommended on"),
        ("", "no score yet on"),
    ):
        if of_kind := by_kind.get(kind):
            clauses.append(f"{clause} {_join_tasks(of_kind)}")
    text = "; ".join(clauses)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _join_recommended(tasks: Sequence[TaskReport]) -> str:
    """``LoRA on a and b, full fine-tuning on c``."""
    by_title: dict[str, list[TaskReport]] = {}
    for task in tasks:
        for cell in task.cells:
            if "*" in cell.signs:
                by_title.setdefault(cell.title, []).append(task)
    return ", ".join(f"{title} on {_join_tasks(of_title)}" for title, of_title in by_title.items())


def _join_tasks(tasks: Sequence[TaskReport]) -> str:
    if len(tasks) > _MOST_NAMED:
        return f"{len(tasks)} tasks"
    return join_names([task.key for task in tasks])


def check_health(
    study: StudyReport, tasks: Sequence[TaskReport], findings: Sequence[DataFinding]
) -> Iterable[HealthItem]:
    """Counts on the study, those that need attention with an alarm."""

    def item(title: str, text: str, *, alarm: bool = False) -> HealthItem:
        return HealthItem(title=title, text=text, alarm=alarm)

    cells = [cell for task in tasks for cell in task.cells]
    trained = [cell for cell in cells if not cell.baseline or cell.name in WITH_MODEL]
    total = study.runs + study.waiting
    yield item("runs finished", f"{study.runs:,} of {total:,}", alarm=study.waiting > 0)
    seeds = sum(len(cell.runs) for cell in trained)
    for title, outcomes in (
        ("constant", ("collapsed",)),
        ("diverged", ("diverged",)),
        ("lost", UNSCORED_OUTCOMES[1:]),
    ):
        count = sum(cell.outcomes.get(outcome, 0) for cell in trained for outcome in outcomes)
        yield item(f"seeds {title}", f"{count:,} of {seeds:,}", alarm=count > 0)
    tuned = [cell for cell in trained if len(cell.tried) > 1]
    if tuned:
        edge = sum(bool(cell.rate_edge) for cell in tuned)
        text = f"best at the edge of those tried for {edge:,} of {pluralise(len(tuned), 'method')}"
        yield item("learning rates", text, alarm=edge > 0)
    elif any(cell.rate for cell in trained):
        yield item("learning rates", "only one tried, so a better one may exist")
    measured = [measurement for cell in cells for measurement in cell.costs]
    doubtful = sum(
        bool((m.get("step_seconds") or {}).get("timed_out") or m.get("contradicted"))
        for m in measured
    )
    if doubtful:
        text = f"{doubtful} of {len(measured)}"
        yield item("step times in doubt (busy machine)", text, alarm=True)
    if summary := summarise_audit(findings):
        yield item("data", summary, alarm=True)


def format_health(report: Report) -> str:
    """The health in one line; items without an alarm are merged."""
    fine = [item for item in report.health if not item.alarm and item.title.startswith("seeds ")]
    items = [f"{item.title}: {item.text}" for item in report.health if item not in fine]
    if fine:
        names = join_names([item.title.removeprefix("seeds ") for item in fine], "or")
        items.insert(1, f"seeds {names}: none of {fine[0].text.split()[-1]}")
    text = "; ".join(items)
    return f"{text[:1].upper()}{text[1:]}"


def list_facts(
    study: StudyReport, tasks: Sequence[TaskReport], environment: Mapping[str, str]
) -> Iterable[tuple[str, str]]:
    """Model, machine and date, by title."""
    sizes = {size.model: size for task in reversed(tasks) for size in task.model_sizes}
    models = dict.fromkeys(cell.model for task in tasks for cell in task.cells if cell.model)
    names = [
        f"{name} ({format_parameters(sizes[name].parameters)} parameters)"
        if name in sizes
        else name
        for name in models
    ]
    yield "model" if len(names) == 1 else "models", join_names(names)
    machine = [
        environment.get("device_name") or environment.get("processor"),
        environment.get("device"),
    ]
    if described := [text for text in machine if text]:
        yield "machine", ", ".join(described)
    if study.date:
        yield "date", study.date


def render_notebook(report: Report) -> str:
    """The first screen of a report as HTML; the page has all of it."""
    rows = list_rows(report.tasks)
    several = len({row.model for row in rows if row.memory}) > 1
    lines = [
        [
            *([row.model if row.memory else ""] if several else []),
            row.method,
            *(f"{format_cell_score(cell)} {cell.signs}" if cell else "" for cell in row.cells),
            row.memory,
        ]
        for row in rows
    ]
    keys = [task.key for task in report.tasks]
    header = [*(["model"] if several else []), "method", *keys, "peak memory"]
    legend = [
        ", ".join(f"{sign} {text}" for sign, text in report.signs.items()),
        *(f"Score: {basis}" for basis in list_score_bases(report.tasks)),
    ]
    advice = [html_block(task.advice.lines) for task in report.tasks if task.advice]
    return (
        html_lines([report.sentence], bold=True)
        + html_table(header, lines)
        + html_lines([". ".join(part for part in legend if part)])
        + "".join(advice)
    )
