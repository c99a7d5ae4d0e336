"""The report as one HTML page: no script, no font, no picture from elsewhere.

It is whole without JavaScript. Where that runs, the reader chooses the cost and the budget of the
front, and the two methods whose answers are set side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from paretune.analysis.budget import expected_best, tried
from paretune.report import bars, curves, fronts, rates_tried, scripts, sizes, stacks, words
from paretune.report.build import Finding, Report, TaskPart, build
from paretune.report.disagreement import disagreement
from paretune.report.foresight import foresight_grids
from paretune.report.heavier import bytes_grid
from paretune.report.live import front_data
from paretune.report.overview import overview
from paretune.report.segments import ROOM, segments
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
    with ThreadPoolExecutor(1) as beside:
        # A front needs two cells with a cost; the bundle is put together while scores are drawn.
        weighed = {record.run.cell for record in records if record.run.stage == "cost"}
        bundle = beside.submit(scripts.bundle).result if len(weighed) > 1 else scripts.bundle
        text = render(build(study, records, states, findings), bundle)
    return write_whole(path, text, "the page")


def render(report: Report, bundle: Callable[[], str] = scripts.bundle) -> str:
    """The page as text. Everything that comes from data or names is escaped.

    Args:
        report: as :func:`~paretune.report.build.build` gathers it.
        bundle: gives what draws the front; called only where a task has one.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    jinja = Environment(
        loader=PackageLoader("paretune.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    foresights = foresight_grids(report)
    found = overview(report)
    # However many translations a study has, their texts fit into one page.
    room = ROOM // max(1, sum(task.translates for task in report.tasks))
    parts = [
        {
            "task": task,
            "curves": curves.panels(task),
            "disagreement": disagreement(task),
            "segments": segments(task, room),
            "sizes": sizes.sizes(task, i),
            **_figures(task, i),
            "foresight": foresights[i],
            **_tuning(task),
        }
        for i, task in enumerate(report.tasks)
    ]
    run: list[str] = []
    if any(task.front for task in report.tasks):
        run += [bundle(), scripts.script("front")]
    if any(part["disagreement"] or part["segments"] for part in parts):
        run.append(scripts.script("disagree"))
    return jinja.get_template("report.html.j2").render(
        report=report,
        policy=Markup(scripts.policy(run)),  # noqa: S704
        scripts=[Markup(text) for text in run],  # noqa: S704
        # Every character that could be markup is an escape in it.
        json=lambda values: Markup(scripts.data(values)),  # noqa: S704
        front_data=front_data,
        box=sizes,
        points=sizes.points,
        parts=parts,
        words=words,
        curve=(curves.WIDTH, curves.HEIGHT),
        segments=stacks.KINDS,
        overview=found,
        several=len({line.model for line in found.lines if line.memory}) > 1,
        front_left=fronts.LEFT,
        narrow=bars.narrow,
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


def _figures(task: TaskPart, index: int) -> dict[str, Any]:
    """Quality, and peak memory once: by its parts where they are known, else as one bar."""
    stack, grid = stacks.memory_stack(task, index), bytes_grid(task.weighed)
    memory = stack or bars.memory(task, index)
    alone = "One measurement each, alone in a fresh process"
    return {
        "figures": [figure for figure in (bars.quality(task, index), memory) if figure],
        "memory_note": grid.above if stack and grid else alone,
        "bytes": grid,
        "kinds": stacks.kinds(stack) if stack else (),
    }
