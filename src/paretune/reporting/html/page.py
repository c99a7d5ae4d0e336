"""The report as one HTML page: no script, no font, no picture from elsewhere.

It is whole without JavaScript. Where that runs, the reader chooses the cost and the budget of the
front, and the two methods whose answers are set side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from paretune.analysis.pareto.expected_best import expected_best_scores, score_rates
from paretune.reporting.build import Finding, Report, TaskReport, build_report
from paretune.reporting.figures import bars, learning_curves, memory_stack, model_size, pareto
from paretune.reporting.figures.vega_data import pareto_data
from paretune.reporting.html import scripts
from paretune.reporting.overview import build_overview
from paretune.reporting.tables import learning_rates
from paretune.reporting.tables.disagreement import find_disagreements
from paretune.reporting.tables.memory_breakdown import build_memory_grid
from paretune.reporting.tables.prediction_error import build_prediction_grids
from paretune.reporting.tables.segment_differences import PAGE_BYTES, find_segment_differences
from paretune.reporting.text.formatting import (
    format_interval,
    format_p_value,
    format_rank,
    format_seconds,
    format_units,
    pluralise,
)
from paretune.reporting.writing import write_file
from paretune.store.record import Record
from paretune.store.status import RunStatus
from paretune.study import Study
from paretune.terminal.sanitise import sanitise_line


def write_page(
    study: Study,
    records: Sequence[Record],
    states: Sequence[RunStatus],
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
        bundle = beside.submit(scripts.load_vega).result if len(weighed) > 1 else scripts.load_vega
        text = render_page(build_report(study, records, states, findings), bundle)
    return write_file(path, text, "the page")


def render_page(report: Report, bundle: Callable[[], str] = scripts.load_vega) -> str:
    """The page as text. Everything that comes from data or names is escaped.

    Args:
        report: as :func:`~paretune.reporting.build.build_report` gathers it.
        bundle: gives what draws the front; called only where a task has one.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    jinja = Environment(
        loader=PackageLoader("paretune.reporting.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.globals |= {
        write.__name__: write
        for write in (
            format_interval,
            format_p_value,
            format_rank,
            format_seconds,
            format_units,
            pluralise,
            sanitise_line,
        )
    }
    foresights = build_prediction_grids(report)
    found = build_overview(report)
    # However many translations a study has, their texts fit into one page.
    room = PAGE_BYTES // max(1, sum(task.translates for task in report.tasks))
    parts = [
        {
            "task": task,
            "curves": learning_curves.build_curve_panels(task),
            "disagreement": find_disagreements(task),
            "segments": find_segment_differences(task, room),
            "sizes": model_size.build_model_sizes(task, i),
            **_figures(task, i),
            "foresight": foresights[i],
            **_tuning(task),
        }
        for i, task in enumerate(report.tasks)
    ]
    run: list[str] = []
    if any(task.front for task in report.tasks):
        run += [bundle(), scripts.load_script("front")]
    if any(part["disagreement"] or part["segments"] for part in parts):
        run.append(scripts.load_script("disagree"))
    return jinja.get_template("report.html.j2").render(
        report=report,
        policy=Markup(scripts.content_security_policy(run)),  # noqa: S704
        scripts=[Markup(text) for text in run],  # noqa: S704
        # Every character that could be markup is an escape in it.
        json=lambda values: Markup(scripts.embed_json(values)),  # noqa: S704
        front_data=pareto_data,
        box=model_size,
        points=model_size.svg_points,
        parts=parts,
        curve=(learning_curves.WIDTH, learning_curves.HEIGHT),
        segments=memory_stack.SEGMENT_TITLES,
        overview=found,
        several=len({line.model for line in found.rows if line.memory}) > 1,
        front_left=pareto.LEFT,
        narrow=bars.narrow_figure,
    )


def _tuning(task: TaskReport) -> dict[str, Any]:
    rates, budgets = [], []
    for row in task.tuned_rows:
        known = score_rates(row.cell.tuning, row.cell.metric)
        rates.append(
            (
                row,
                [learning_rates.format_trial(trial, known, row) for trial in row.cell.choice.table],
            )
        )
        if best := expected_best_scores(row.cell.tuning, row.cell.metric, known):
            budgets.append((row, best))
    return {"rates": rates, "budgets": budgets}


def _figures(task: TaskReport, index: int) -> dict[str, Any]:
    """Quality, and peak memory once: by its parts where they are known, else as one bar."""
    stack, grid = (
        memory_stack.build_memory_stack(task, index),
        build_memory_grid(task.measured_rows),
    )
    memory = stack or bars.memory_figure(task, index)
    alone = "One measurement each, alone in a fresh process"
    return {
        "figures": [figure for figure in (bars.score_figure(task, index), memory) if figure],
        "memory_note": grid.above if stack and grid else alone,
        "bytes": grid,
        "kinds": memory_stack.stack_kinds(stack) if stack else (),
    }
