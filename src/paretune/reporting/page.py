"""The report as one HTML page: nothing in it is loaded from elsewhere.

It is complete without JavaScript. With JavaScript the reader sorts tables, copies commands, chooses
the cost and the budget of the Pareto chart (drawn by Vega, https://vega.github.io, as the package
``vl-convert-python`` of its makers brings it), and the two methods whose answers are compared. The
page's policy allows these scripts by their hashes and no other, and forbids ``eval``.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from paretune.errors import StoreError
from paretune.files import data_home
from paretune.reporting import charts, tables
from paretune.reporting.document import (
    Document,
    TaskReport,
    format_cell_score,
    list_rows,
    list_score_bases,
    write_file,
)
from paretune.reporting.rows_chart import chart_labelled_rows
from paretune.reporting.text.escape import dump_script_json, open_templates
from paretune.reporting.text.formatting import (
    format_interval,
    format_rank,
    format_seconds,
    format_units,
)
from paretune.reporting.vega import draw_svg
from paretune.study import UNNAMED_MODEL
from paretune.terminal.plural import pluralise

_TEMPLATES = files("paretune.reporting") / "templates"
_SNIPPET = "window.vegaEmbed = vegaEmbed;"
"""The bundle defines this function in the page; it draws."""


@cache
def load_vega() -> str:
    """Load Vega, Vega-Lite and Vega-Embed as one script, with its licence: about 0.9 MB.

    Building it takes about 1.5 s, so it is cached in the folder of downloaded data, one file for
    each version; where that folder cannot be written, each process builds it again. A damaged
    file is replaced.
    """
    licence = (_TEMPLATES / "vega-licence.txt").read_text(encoding="utf-8").strip()
    sources = f"{version('vl-convert-python')}\n{_SNIPPET}\n{licence}"
    cached = data_home() / "page" / f"vega-{_digest(sources).hex()[:16]}.js"
    if cached.is_file() and os.access(cached, os.R_OK):
        content = cached.read_bytes().decode("utf-8", errors="replace")
        digest, _, text = content.partition("\n")
        if digest == _digest(text).hex():
            return text
    # Imported here: 80 MB of shared object that a report on a terminal does not need.
    import vl_convert

    text = _inert(f"/*!\n{licence}\n*/\n{vl_convert.javascript_bundle(_SNIPPET)}")
    # Where the folder is read-only or full, the next process builds it again.
    with suppress(StoreError):
        write_file(cached, f"{_digest(text).hex()}\n{text}", "the page's library")
    return text


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


@cache
def load_script(name: str) -> str:
    """Load a script of the page: ``page`` (tables and commands), ``pareto``, ``disagreement``."""
    return _inert((_TEMPLATES / f"{name}.js").read_text(encoding="utf-8"))


def _inert(script: str) -> str:
    """Escape what would end the element of a script: ``</`` only occurs in texts and patterns."""
    return script.replace("</script", r"<\/script").replace("<!--", r"<\!--")


_FORMATTERS = (
    format_cell_score,
    format_interval,
    format_rank,
    format_seconds,
    format_units,
    pluralise,
    tables.find_word_columns,
)
"""Functions that templates call."""


def write_page(report: Document, path: Path, card: Path | None = None) -> Path:
    """Write the page to ``path``, whole or not at all; its folder is created if it is missing.

    Args:
        report: all of the study.
        path: an HTML file.
        card: a picture that is published with the page, for links to it.

    Raises:
        StoreError: the page cannot be written there.
    """
    image = ""
    if card is not None:
        image = quote(Path(os.path.relpath(card, path.parent)).as_posix())
    return write_file(path, render_page(report, image=image), "the page")


def render_page(
    report: Document, load_vega: Callable[[], str] = load_vega, *, image: str = ""
) -> str:
    """Render the page as text. Everything that comes from data or names is escaped.

    Args:
        report: all of the study.
        load_vega: returns the charting library; called only where a task has a Pareto chart.
        image: address of the page's card, relative to the page.
    """
    rows = list_rows(report.tasks)
    parts = [_draw_task(task) for task in report.tasks]
    page_scripts = [load_script("page")] if rows else []
    fronts = [part for part in parts if part["fronts"]]
    if fronts:
        page_scripts += [load_vega(), load_script("pareto")]
    if any(task.disagreement for task in report.tasks):
        page_scripts.append(load_script("disagreement"))
    hashes = " ".join(
        f"'sha256-{base64.b64encode(_digest(text)).decode()}'" for text in page_scripts
    )
    allowed = f"; script-src {hashes}" if page_scripts else ""
    policy = f"default-src 'none'; style-src 'unsafe-inline'{allowed}"
    jinja = open_templates("paretune.reporting", html=True)
    jinja.globals |= {function.__name__: function for function in _FORMATTERS}
    return jinja.get_template("report.html.j2").render(
        report=report,
        policy=Markup(policy),  # noqa: S704
        scripts=[Markup(text) for text in page_scripts],  # noqa: S704
        # Every character that could be markup is an escape in it.
        json=lambda values: Markup(dump_script_json(values)),  # noqa: S704
        draw=draw_svg,
        image=image,
        parts=parts,
        front=fronts[0] if fronts else None,
        specs=[[chart.spec for chart in part["fronts"]] for part in parts],
        rows=rows,
        score_bases=list_score_bases(report.tasks),
        rows_chart=report.labelled_rows and chart_labelled_rows(report.labelled_rows),
        over_tasks=tables.build_over_tasks_table,
        pairs=tables.build_pair_table,
        failures=tables.build_failure_table(report),
        several=len({row.model for row in rows if row.has_model}) > 1,
        with_memory=any(row.memory for row in rows),
        unnamed=UNNAMED_MODEL.key,
    )


def _draw_task(task: TaskReport) -> dict[str, Any]:
    """Draw the charts and tables of a task."""
    fronts = [charts.chart_front(task, front) for front in task.fronts]
    ends = [end for cell in task.cells if cell.score for end in (cell.score.low, cell.score.high)]
    costs = ("evaluation", "step") if task.fronts else tuple(tables.COSTS)
    return {
        "task": task,
        "bars": list(filter(None, (charts.chart_scores(task), charts.chart_memory(task)))),
        "fronts": fronts,
        "sizes": charts.chart_model_sizes(task),
        "curves": charts.chart_learning_curves(task),
        # The axis of the intervals in its cells.
        "ends": (min(ends, default=0.0), max(ends, default=1.0)),
        "front_table": tables.build_front_table(task),
        "scores": tables.build_score_table(task),
        "costs": tables.build_cost_table(task, costs),
        "bytes": tables.build_memory_table(task),
        "size_table": tables.build_size_table(task),
        "rates": tables.build_rate_table(task),
    }
