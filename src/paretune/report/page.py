"""The report as one HTML page: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from paretune.analysis.budget import expected_best, tried
from paretune.report import bars, curves, fronts, rates_tried, stacks, words
from paretune.report.build import Finding, Report, TaskPart, build
from paretune.report.foresight import foresight_grids
from paretune.report.heavier import bytes_grid
from paretune.report.writing import write_whole
from paretune.store.record import Record
from paretune.store.rows import RunState
from paretune.study import Study


def html(
    study: Study,
    records: Sequence[Record],
    states: Sequence[RunState],
    path: Path,
    findings: Iterable[Finding] = (),
) -> Path:
    """Write the page to ``path``, whole or not at all.

    Args:
        study: what was asked for.
        records: ended runs with their predictions.
        states: how all runs stand.
        path: of the page; its folder is made if it is missing.
        findings: what the audit found in the study's data.

    Raises:
        StoreError: the page cannot be written there.
    """
    return write_whole(path, render(build(study, records, states, findings)), "the page")


def render(report: Report) -> str:
    """The page as text. Everything that comes from data or names is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    jinja = Environment(
        loader=PackageLoader("paretune.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    foresights = foresight_grids(report)
    parts = [
        {
            "task": task,
            "figures": [f for f in (bars.quality(task, i), bars.memory(task, i)) if f],
            "curves": curves.panels(task),
            **_stack(task, i),
            "foresight": foresights[i],
            **_tuning(task),
        }
        for i, task in enumerate(report.tasks)
    ]
    return jinja.get_template("report.html.j2").render(
        report=report,
        parts=parts,
        words=words,
        curve=(curves.WIDTH, curves.HEIGHT),
        segments=stacks.KINDS,
        front_size=(fronts.WIDTH, fronts.PLOT, fronts.LEFT),
    )


def _tuning(task: TaskPart) -> dict[str, Any]:
    rates, budgets = [], []
    for row in task.tuned:
        known = tried(row.cell.tuning, row.cell.metric)
        rates.append(
            (row, [rates_tried.text(trial, known, row) for trial in row.cell.choice.table])
        )
        if best := expected_best(row.cell.tuning, row.cell.metric, known):
            budgets.append((row, best))
    return {"rates": rates, "budgets": budgets}


def _stack(task: TaskPart, index: int) -> dict[str, Any]:
    found = stacks.memory_stack(task, index)
    return {
        "bytes": bytes_grid(task.weighed),
        "stack": found,
        "kinds": stacks.kinds(found) if found else (),
    }
