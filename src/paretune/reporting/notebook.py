"""A report as a notebook shows it: the overview, and three lines for each task."""

from __future__ import annotations

from paretune.reporting.model import Report
from paretune.reporting.overview import build_overview
from paretune.terminal.notebook import html_block, html_lines, html_table


def render_report(report: Report) -> str:
    """The first screen of a report as HTML; the page has all of it."""
    overview = build_overview(report)
    several = len({row.model for row in overview.rows if row.memory}) > 1
    rows = [
        [
            *([row.model if row.memory else ""] if several else []),
            row.method,
            *(f"{score.score} {score.signs}" if score else "" for score in row.scores),
            row.memory,
        ]
        for row in overview.rows
    ]
    header = [*(["model"] if several else []), "method", *overview.tasks, "peak memory"]
    legend = [
        ", ".join(f"{sign} {text}" for sign, text in overview.signs),
        *(f"Score: {basis}" for basis in overview.score_bases),
    ]
    advice = [html_block(task.advice.lines) for task in report.tasks if task.advice]
    return (
        html_lines([overview.sentence], bold=True)
        + html_table(header, rows)
        + html_lines([". ".join(part for part in legend if part)])
        + "".join(advice)
    )
