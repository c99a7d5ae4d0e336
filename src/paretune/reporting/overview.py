"""A study on one screen: methods by tasks, one sentence, and the health of the study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paretune.analysis.cells import NO_MODEL
from paretune.methods.baselines import WITH_MODEL
from paretune.reporting.model import Report, TaskReport
from paretune.reporting.rows import Row
from paretune.reporting.tables.model_sizes import count_model_parameters
from paretune.reporting.text.formatting import (
    format_bytes,
    format_interval,
    format_parameters,
    join_names,
    pluralise,
)
from paretune.store.record import UNSCORED_OUTCOMES

SIGNS = {
    "▲": "clearly above every baseline",
    "≈": "no clear difference from one",
    "▼": "clearly below one",
    "*": "what to take",
    "c": "half of the seeds or more constant",
}
_STANDING = {"above": "▲", "unclear": "≈", "below": "▼", "none": ""}
_MOST_NAMED = 4
"""More tasks than this are counted in the sentence, and not named."""


@dataclass(frozen=True)
class OverviewScore:
    """One method on one task: the score with its interval, and :data:`SIGNS`."""

    row: Row
    score: str
    signs: str


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
    """How much of something there is; ``alarm`` where it should be looked into."""

    title: str
    text: str
    alarm: bool = False


@dataclass(frozen=True)
class Overview:
    """``sentence`` is on the whole study; ``facts`` are model, machine, date, by title.

    ``metrics`` and ``bases`` are the tasks', ``signs`` those that occur, with their meanings.
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
        """What the scores are, on what: once for all tasks where that is the same."""
        found: dict[str, list[str]] = {}
        for task, metric, basis in zip(self.tasks, self.metrics, self.bases, strict=True):
            if basis:
                found.setdefault(f"{metric}, {basis}", []).append(task)
        if len(found) == 1:
            return tuple(found)
        return tuple(f"{', '.join(tasks)}: {kind}" for kind, tasks in found.items())


def build_overview(report: Report) -> Overview:
    """The first screen of a report that is built."""
    lines = tuple(_lines(report.tasks))
    there = {sign for line in lines for mark in line.scores if mark for sign in mark.signs}
    return Overview(
        sentence=_sentence(report.tasks),
        health=tuple(_health(report)),
        facts=tuple(_facts(report)),
        tasks=tuple(task.key for task in report.tasks),
        metrics=tuple(task.metric for task in report.tasks),
        bases=tuple(task.basis for task in report.tasks),
        rows=lines,
        signs=tuple((sign, text) for sign, text in SIGNS.items() if sign in there),
    )


def _lines(tasks: Sequence[TaskReport]) -> Iterable[OverviewRow]:
    """Every method and baseline that has ended anywhere, in the study's order."""
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for task in tasks:
        for row in task.all_rows:
            found.setdefault((row.cell.model, row.cell.method), {})[task.key] = row
    # Model by model; those without one last, as each of them stands beside every model.
    models = list(dict.fromkeys(model for model, _ in found if model != NO_MODEL))
    order = {model: place for place, model in enumerate((*models, NO_MODEL))}
    for (model, _), rows in sorted(found.items(), key=lambda item: order[item[0][0]]):
        first = next(iter(rows.values()))
        marks = tuple(_mark(rows[t.key], t) if t.key in rows else None for t in tasks)
        if not any(marks):
            continue
        peaks = [r.cost.memory.value for r in rows.values() if r.cost.memory.value is not None]
        memory = format_bytes(max(peaks)) if peaks else "" if model == NO_MODEL else "–"
        yield OverviewRow(first.model, first.method, first.cell.baseline, marks, memory)


def _mark(row: Row, task: TaskReport) -> OverviewScore | None:
    if not (row.cell.final or row.cell.all_trials_failed):
        return None
    found = row.interval
    sign = ""
    if row.verdict is not None and not row.cell.baseline:
        missing = row.verdict.standing == "above" and not row.verdict.above_all
        sign = "≈" if missing else _STANDING[row.verdict.standing]
    if task.advice and task.advice.take == row.title:
        sign += "*"
    if row.collapsed and found:
        sign += "c"
    return OverviewScore(row, format_interval(found) if found else "no score", sign)


def _sentence(tasks: Sequence[TaskReport]) -> str:
    """What the study found, over all its tasks, in one sentence."""
    by_kind: dict[str, list[TaskReport]] = {}
    for task in tasks:
        if task.advice is not None:
            scored = any(row.interval for row in task.all_rows)
            by_kind.setdefault(task.advice.kind if scored else "", []).append(task)
    of = f"of {pluralise(len(tasks), 'task')}"
    said = []
    if found := by_kind.get("method"):
        said.append(
            f"on {len(found)} {of} a method is clearly above every baseline; take {_taken(found)}"
        )
    if found := by_kind.get("guess"):
        said.append(f"not proven, the best guess is {_taken(found)}")
    if found := by_kind.get("baseline"):
        said.append(f"no method scores above the baselines on {_named(found)}")
    if found := by_kind.get("none"):
        said.append(f"nothing can be recommended on {_named(found)}")
    if found := by_kind.get(""):
        said.append(f"no score yet on {_named(found)}")
    text = "; ".join(said)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _taken(tasks: Sequence[TaskReport]) -> str:
    """``lora on a and b, full on c``."""
    found: dict[str, list[TaskReport]] = {}
    for task in tasks:
        found.setdefault(task.advice.take if task.advice else "", []).append(task)
    return ", ".join(f"{name} on {_named(where)}" for name, where in found.items())


def _named(tasks: Sequence[TaskReport]) -> str:
    if len(tasks) > _MOST_NAMED:
        return f"{len(tasks)} tasks"
    return join_names([task.key for task in tasks])


def _health(report: Report) -> Iterable[HealthItem]:
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
    chosen = [r for r in trained if len(r.cell.choice.table) > 1]
    if chosen:
        edge = sum(r.cell.edge for r in chosen)
        yield HealthItem("rates at the edge", f"{edge:,} of {len(chosen):,}", edge > 0)
    elif any(r.cell.rate for r in trained):
        yield HealthItem("rates at the edge", "unknown, one was tried")
    measured = [record.measured for row in rows for record in row.cell.cost]
    if doubtful := sum(map(_in_doubt, measured)):
        yield HealthItem(
            "step times in doubt (busy machine)", f"{doubtful} of {len(measured)}", True
        )
    if report.audit_summary:
        yield HealthItem("data", report.audit_summary, alarm=True)


def _in_doubt(measured: Mapping[str, Any]) -> bool:
    """The study's own steps contradict the measured one, or it did not settle within its time."""
    steps = measured.get("step_seconds") or {}
    return bool(measured.get("contradicted") or steps.get("timed_out"))


def format_health(found: Overview) -> str:
    """The health in one line: what is in order is said together."""
    fine = [one for one in found.health if not one.alarm and one.title.startswith("seeds ")]
    said = [f"{one.title}: {one.text}" for one in found.health if one not in fine]
    if fine:
        names = join_names([one.title.removeprefix("seeds ") for one in fine], "or")
        said.insert(1, f"seeds {names}: none of {fine[0].text.split()[-1]}")
    return "; ".join(said)


def _facts(report: Report) -> Iterable[tuple[str, str]]:
    rows = [row for task in report.tasks for row in task.all_rows]
    known = count_model_parameters(rows)
    models = {row.cell.model: row.model for row in rows if row.cell.model != NO_MODEL}
    said = [
        f"{name} ({format_parameters(known[key].value)} parameters)" if key in known else name
        for key, name in models.items()
    ]
    yield "model" if len(said) == 1 else "models", join_names(said)
    machine = dict(report.environment)
    named = [machine.get("device_name") or machine.get("processor"), machine.get("device")]
    if said := [text for text in named if text]:
        yield "machine", ", ".join(said)
    if report.date:
        yield "date", report.date
