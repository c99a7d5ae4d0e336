"""A study on one screen: methods by tasks, one sentence, and the health of the study."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from paretune.analysis.cell import NO_MODEL
from paretune.methods.baselines import WITH_MODEL
from paretune.reporting.model import Report, TaskReport
from paretune.reporting.rows import Row
from paretune.reporting.tables.model_sizes import count_model_parameters
from paretune.reporting.text.formatting import (
    format_bytes,
    format_interval,
    format_parameters,
    format_rank,
    join_names,
)
from paretune.store.record import UNSCORED_OUTCOMES
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
class OverviewScore:
    """One method on one task: the score with its interval, :data:`SIGNS`, and the possible ranks.

    ``rank`` is empty for baselines, and where there is nothing to rank.
    """

    row: Row
    score: str
    signs: str
    rank: str = ""


@dataclass(frozen=True)
class OverviewRow:
    """One method on all tasks; ``memory`` is its highest peak in training, of all tasks."""

    model: str
    method: str
    baseline: bool
    scores: tuple[OverviewScore | None, ...]
    memory: str


@dataclass(frozen=True)
class HealthItem:
    """One count on the study; ``alarm`` where it needs attention."""

    title: str
    text: str
    alarm: bool = False


@dataclass(frozen=True)
class Overview:
    """The whole study: ``sentence`` sums it up; ``facts`` are model, machine and date, by title.

    ``metrics`` and ``bases`` are of the tasks; ``signs`` are those that occur, with meanings.
    """

    sentence: str
    health: tuple[HealthItem, ...]
    facts: tuple[tuple[str, str], ...]
    tasks: tuple[str, ...]
    metrics: tuple[str, ...]
    bases: tuple[str, ...]
    rows: tuple[OverviewRow, ...]
    signs: tuple[tuple[str, str], ...]

    @property
    def score_bases(self) -> tuple[str, ...]:
        """Metric and basis of the scores; once for all tasks where they are the same."""
        tasks_by_basis: dict[str, list[str]] = {}
        for task, metric, basis in zip(self.tasks, self.metrics, self.bases, strict=True):
            if basis:
                tasks_by_basis.setdefault(f"{metric}, {basis}", []).append(task)
        if len(tasks_by_basis) == 1:
            return tuple(tasks_by_basis)
        return tuple(f"{', '.join(tasks)}: {basis}" for basis, tasks in tasks_by_basis.items())


def build_overview(report: Report) -> Overview:
    """The overview of a report."""
    rows = tuple(_build_rows(report.tasks))
    scores = [score for row in rows for score in row.scores if score]
    signs = {sign for score in scores for sign in score.signs} | {row.memory for row in rows}
    lost = any(s.row.verdict.of_trained for s in scores if "▲" in s.signs and s.row.verdict)
    return Overview(
        sentence=_write_sentence(report.tasks),
        health=tuple(_check_health(report)),
        facts=tuple(_list_facts(report)),
        tasks=tuple(task.key for task in report.tasks),
        metrics=tuple(task.metric for task in report.tasks),
        bases=tuple(task.basis for task in report.tasks),
        rows=rows,
        signs=tuple(
            (sign, f"{text}, of runs that trained" if sign == "▲" and lost else text)
            for sign, text in SIGNS.items()
            if sign in signs
        ),
    )


def _build_rows(tasks: Sequence[TaskReport]) -> Iterable[OverviewRow]:
    """Every method and baseline with an ended run on any task, in the study's order."""
    by_configuration: dict[tuple[str, str], dict[str, Row]] = {}
    for task in tasks:
        for row in task.all_rows:
            by_task = by_configuration.setdefault((row.cell.model, row.cell.method), {})
            by_task[task.key] = row
    # Model by model; baselines without a model last, since they belong to every model.
    models = list(dict.fromkeys(model for model, _ in by_configuration if model != NO_MODEL))
    order = {model: place for place, model in enumerate((*models, NO_MODEL))}
    for (model, _), rows in sorted(by_configuration.items(), key=lambda item: order[item[0][0]]):
        first = next(iter(rows.values()))
        scores = tuple(_build_score(rows[t.key], t) if t.key in rows else None for t in tasks)
        if not any(scores):
            continue
        peaks = [r.cost.memory.value for r in rows.values() if r.cost.memory.value is not None]
        memory = format_bytes(max(peaks)) if peaks else "" if model == NO_MODEL else "–"
        yield OverviewRow(first.model, first.method, first.cell.baseline, scores, memory)


def _build_score(row: Row, task: TaskReport) -> OverviewScore | None:
    if not (row.cell.final or row.cell.all_trials_failed):
        return None
    signs = ""
    if row.verdict is not None and not row.cell.baseline:
        incomplete = row.verdict.standing == "above" and not row.verdict.above_all
        signs = "≈" if incomplete else _STANDING[row.verdict.standing]
    if _is_taken(row, task):
        signs += "*"
    if row.collapsed and row.interval:
        signs += "c"
    score = format_interval(row.interval) if row.interval else "no score"
    return OverviewScore(row, score, signs, format_rank(row.rank) if row.rank else "")


def _is_taken(row: Row, task: TaskReport) -> bool:
    advice = task.advice
    return advice is not None and (advice.model, advice.method) == (row.cell.model, row.cell.method)


def _write_sentence(tasks: Sequence[TaskReport]) -> str:
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
        for row in task.all_rows:
            if _is_taken(row, task):
                by_title.setdefault(row.title, []).append(task)
    return ", ".join(f"{title} on {_join_tasks(of_title)}" for title, of_title in by_title.items())


def _join_tasks(tasks: Sequence[TaskReport]) -> str:
    if len(tasks) > _MOST_NAMED:
        return f"{len(tasks)} tasks"
    return join_names([task.key for task in tasks])


def _check_health(report: Report) -> Iterable[HealthItem]:
    rows = [row for task in report.tasks for row in task.all_rows]
    trained = [r for r in rows if not r.cell.baseline or r.cell.name in WITH_MODEL]
    total = report.ended_runs + report.waiting_runs
    yield HealthItem(
        "runs finished", f"{report.ended_runs:,} of {total:,}", report.waiting_runs > 0
    )
    seeds = sum(len(r.cell.final) for r in trained)
    for title, outcomes in (
        ("constant", ("collapsed",)),
        ("diverged", ("diverged",)),
        ("lost", UNSCORED_OUTCOMES[1:]),
    ):
        count = sum(r.cell.outcomes.get(outcome, 0) for r in trained for outcome in outcomes)
        yield HealthItem(f"seeds {title}", f"{count:,} of {seeds:,}", count > 0)
    tuned = [r for r in trained if len(r.trials) > 1]
    if tuned:
        edge = sum(r.cell.edge for r in tuned)
        text = f"best at the edge of those tried for {edge:,} of {pluralise(len(tuned), 'method')}"
        yield HealthItem("learning rates", text, edge > 0)
    elif any(r.cell.rate for r in trained):
        yield HealthItem("learning rates", "only one tried, so a better one may exist")
    measured = [record for row in rows for record in row.cell.cost]
    if doubtful := sum(record.step_in_doubt for record in measured):
        yield HealthItem(
            "step times in doubt (busy machine)", f"{doubtful} of {len(measured)}", True
        )
    if report.audit_summary:
        yield HealthItem("data", report.audit_summary, alarm=True)


def format_health(overview: Overview) -> str:
    """The health in one line; items without an alarm are merged."""
    fine = [item for item in overview.health if not item.alarm and item.title.startswith("seeds ")]
    items = [f"{item.title}: {item.text}" for item in overview.health if item not in fine]
    if fine:
        names = join_names([item.title.removeprefix("seeds ") for item in fine], "or")
        items.insert(1, f"seeds {names}: none of {fine[0].text.split()[-1]}")
    text = "; ".join(items)
    return f"{text[:1].upper()}{text[1:]}"


def _list_facts(report: Report) -> Iterable[tuple[str, str]]:
    rows = [row for task in report.tasks for row in task.all_rows]
    parameters = count_model_parameters(rows)
    models = {row.cell.model: row.model for row in rows if row.cell.model != NO_MODEL}
    names = [
        f"{name} ({format_parameters(parameters[key].value)} parameters)"
        if key in parameters
        else name
        for key, name in models.items()
    ]
    yield "model" if len(names) == 1 else "models", join_names(names)
    environment = dict(report.environment)
    machine = [
        environment.get("device_name") or environment.get("processor"),
        environment.get("device"),
    ]
    if known := [text for text in machine if text]:
        yield "machine", ", ".join(known)
    if report.date:
        yield "date", report.date
