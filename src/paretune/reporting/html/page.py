"""The report as one HTML page: nothing in it is loaded from elsewhere.

It is complete without JavaScript. With JavaScript the reader chooses the cost and the budget of the
Pareto figure, and the two methods whose answers are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune.reporting.figures import bars, learning_curves, memory_stack, model_size, pareto
from paretune.reporting.figures.vega_data import pareto_data
from paretune.reporting.html import scripts
from paretune.reporting.json.script_json import dump_script_json
from paretune.reporting.model import Report, TaskReport
from paretune.reporting.overview import build_overview
from paretune.reporting.text.formatting import (
    format_interval,
    format_p_value,
    format_rank,
    format_seconds,
    format_units,
    pluralise,
)
from paretune.reporting.writing import write_file
from paretune.terminal.sanitise import sanitise_line

if TYPE_CHECKING:
    from jinja2 import Environment

_FORMATTERS = (
    format_interval,
    format_p_value,
    format_rank,
    format_seconds,
    format_units,
    pluralise,
    sanitise_line,
)
"""Functions that templates call."""


def write_page(report: Report, path: Path) -> Path:
    """Write the page to ``path``, whole or not at all; its folder is created if it is missing.

    Raises:
        StoreError: the page cannot be written there.
    """
    return write_file(path, render_page(report), "the page")


def render_page(report: Report, load_vega: Callable[[], str] = scripts.load_vega) -> str:
    """The page as text. Everything that comes from data or names is escaped.

    Args:
        report: all of the study.
        load_vega: returns the charting library; called only where a task has a Pareto figure.
    """
    from markupsafe import Markup

    overview = build_overview(report)
    parts = [_lay_out_task(task, index) for index, task in enumerate(report.tasks)]
    page_scripts: list[str] = []
    if any(part["pareto"] for part in parts):
        page_scripts += [load_vega(), scripts.load_script("pareto")]
    if any(task.disagreement or task.segments for task in report.tasks):
        page_scripts.append(scripts.load_script("disagreement"))
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            policy=Markup(scripts.content_security_policy(page_scripts)),  # noqa: S704
            scripts=[Markup(text) for text in page_scripts],  # noqa: S704
            # Every character that could be markup is an escape in it.
            json=lambda values: Markup(dump_script_json(values)),  # noqa: S704
            pareto_data=pareto_data,
            box=model_size,
            points=model_size.svg_points,
            parts=parts,
            curve=(learning_curves.WIDTH, learning_curves.HEIGHT),
            segments=memory_stack.SEGMENT_TITLES,
            overview=overview,
            several=len({line.model for line in overview.rows if line.memory}) > 1,
            pareto_left=pareto.LEFT,
            narrow=bars.narrow_figure,
        )
    )


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    jinja = Environment(
        loader=PackageLoader("paretune.reporting.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.globals |= {function.__name__: function for function in _FORMATTERS}
    return jinja


def _lay_out_task(task: TaskReport, index: int) -> dict[str, Any]:
    """The figures of one task; memory once: by its parts where they are known, else as one bar."""
    stack = memory_stack.build_memory_stack(task, index)
    memory = stack or bars.memory_figure(task, index)
    memory_note = "One measurement each, alone in a fresh process"
    if stack and task.memory_table:
        memory_note = task.memory_table.above
    return {
        "task": task,
        "figures": [figure for figure in (bars.score_figure(task, index), memory) if figure],
        "memory_note": memory_note,
        "kinds": memory_stack.stack_kinds(stack) if stack else (),
        "pareto": pareto.lay_out_pareto(task, index),
        "sizes": model_size.lay_out_model_sizes(task, index),
        "curves": learning_curves.build_curve_panels(task),
    }
