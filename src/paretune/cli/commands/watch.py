"""``paretune watch``: a running study on the terminal, read from its store. Needs no torch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.cli.json_output import check_json_output, run_fields, write_result
from paretune.cli.options import AsJson, JsonFile, StoreFolder, StudyName
from paretune.cli.overrides import Overrides, load_overridden, study_command
from paretune.terminal import console, sanitise_line

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from paretune.verbs.watch import CellProgress, StudyProgress

COUNTS = ("done", "running", "waiting", "failed", "seconds")
MAX_FAILURES = 3
"""So many failed runs are told; `paretune report` has all."""


def watch(
    study: StudyName,
    overrides: Overrides = None,
    store: StoreFolder = None,
    once: Annotated[bool, typer.Option("--once", help="Show it once and end.")] = False,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.2, help="Between two looks.")
    ] = 2.0,
    as_json: AsJson = False,
    output: JsonFile = None,
) -> None:
    """Show how a study stands while it runs: here, in another process, or in several.

    Reads the store and writes nothing. Ends when the study is done, or at Ctrl-C, which does not
    touch the study; shows one view and ends where the output is no terminal.
    """
    from rich.live import Live

    from paretune.verbs.watch import open_progress

    check_json_output(as_json, output)
    out = console()
    with open_progress(load_overridden(study, overrides), store) as look:
        if as_json:
            write_result("watch", _json_fields(look()), output)
            return
        if once or not out.is_terminal or out.is_dumb_terminal:
            out.print(render_progress(look(), study_command(study, overrides)))
            return
        try:
            with Live(console=out, auto_refresh=False) as live:
                while True:
                    view = look()
                    live.update(
                        render_progress(view, study_command(study, overrides)), refresh=True
                    )
                    if view.over:
                        return
                    time.sleep(every)
        except KeyboardInterrupt:
            out.print("No longer watched; the study itself was not touched.")


def _json_fields(view: StudyProgress) -> dict[str, Any]:
    told = ("over", "ended", "total", "workers", "seconds", "seconds_left")
    return {
        "study": view.study.study,
        **{name: getattr(view, name) for name in told},
        "running": [
            {**run_fields(state.run), "seconds": state.seconds, "progress": state.progress}
            for state in view.running
        ],
        "failed": [
            {**run_fields(state.run), "run_id": state.run_id, "message": state.message}
            for state in view.failed
        ],
        "cells": [
            {
                "task": one.cell.task,
                "model": one.cell.model,
                "method": one.cell.method,
                **{name: getattr(one, name) for name in COUNTS},
                "score": one.cell.interval,
            }
            for one in view.cells
        ],
    }


def render_progress(view: StudyProgress, called: str) -> Group:
    """The view as lines and a table for each task; ``called`` is how the user names the study."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Text | Table] = [Text(sanitise_line(view.study.study), style="bold")]
    parts += [Text(sanitise_line(line)) for line in _summary_lines(view, called)]
    parts += [Text(f"  {sanitise_line(line)}") for line in _running_lines(view)]
    parts += [Text(f"  {sanitise_line(line)}", style="red") for line in _failure_lines(view)]
    for (task, model), standings in groupby(view.cells, _group_key):
        parts += [
            Text(sanitise_line(f"\n{task}, {model}".strip("\n"))),
            _cell_table(list(standings)),
        ]
    parts += [Text(line, style="dim") for line in _legend_lines(view)]
    return Group(*parts)


def _group_key(standing: CellProgress) -> tuple[str, str]:
    from paretune.analysis.cells import NO_MODEL

    model = standing.cell.model
    return standing.cell.task, "no model" if model == NO_MODEL else model


def _summary_lines(view: StudyProgress, called: str) -> Iterator[str]:
    from paretune.execution.progress.describe import format_duration
    from paretune.reporting.text.formatting import pluralise

    counts = [f"{view.ended} of {pluralise(view.total, 'run')} ended"]
    if view.failed:
        counts.append(f"{len(view.failed)} of them failed")
    if view.running:
        counts.append(f"{len(view.running)} running")
    if view.unscheduled:
        counts.append(f"{view.unscheduled} not asked for before their rate is chosen")
    yield f"{', '.join(counts)}; {format_duration(view.seconds)} of work so far."
    if view.over:
        yield f"Done: paretune report {called}"
    elif not view.running:
        yield f"Nobody works on it now: paretune run {called} goes on with it."
    elif view.seconds_left is None:
        yield "Too little has ended to say how long it takes."
    else:
        workers = pluralise(view.workers, "worker")
        time_left = format_duration(view.seconds_left)
        yield f"About {time_left} left with {workers}, as the runs so far took."
    if view.abandoned:
        yield f"{pluralise(len(view.abandoned), 'run')} left by a worker that is gone: waiting."


def _running_lines(view: StudyProgress) -> Iterator[str]:
    from paretune.execution.progress.describe import describe_run, describe_step, format_duration

    for state in view.running:
        seconds = "" if state.seconds is None else f", {format_duration(state.seconds)}"
        yield f"{describe_run(state.run)}: {describe_step(state)}{seconds}"


def _failure_lines(view: StudyProgress) -> Iterator[str]:
    from paretune.execution.progress.describe import describe_end, describe_run

    for state in view.failed[-MAX_FAILURES:]:
        yield f"{describe_run(state.run)}: {describe_end(state).splitlines()[0]}"
    if (more := len(view.failed) - MAX_FAILURES) > 0:
        yield f"and {more} more that failed; paretune report tells why"


def _cell_table(standings: list[CellProgress]) -> Table:
    """Fixed widths, so that the tables of all tasks stand in line; 80 columns are enough."""
    from rich.table import Table
    from rich.text import Text

    from paretune.execution.progress.describe import format_duration

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("  method", width=16, overflow="fold")
    for title, width in (("done", 4), ("now", 4), ("wait", 4), ("fail", 4), ("time", 10)):
        table.add_column(title, justify="right", min_width=width, no_wrap=True)
    table.add_column("score [95 %]", justify="right", min_width=17, no_wrap=True)
    table.add_column("n x seeds", justify="right", min_width=9, no_wrap=True)
    for one in standings:
        counts = (one.done, one.running, one.waiting, one.failed)
        cells = [f"  {sanitise_line(one.cell.method)}", *map(str, counts)]
        cells += [format_duration(one.seconds) if one.seconds else "-", *_format_score(one)]
        style = "bold" if one.running else "dim" if one.cell.baseline else ""
        table.add_row(*map(Text, cells), style=style)
    return table


def _format_score(standing: CellProgress) -> tuple[str, str]:
    """Never a score without its interval and what it stands on."""
    from paretune.reporting.text.formatting import format_interval, format_units

    found = standing.cell.interval
    if found is None:
        return "-", "-"
    return format_interval(found), f"{format_units(found)} x {found.n_seeds}"


def _legend_lines(view: StudyProgress) -> Iterator[str]:
    found = [one.cell for one in view.cells if one.cell.interval]
    yield "Runs done, running now, waiting, failed; the time is that of each run's last attempt."
    if found:
        yield (
            "Score: the final runs so far, on the test part; the interval is over seeds and "
            "examples, of one seed over examples only. Who is ahead now may not stay ahead: "
            "paretune report says what can be told apart."
        )
    if any(cell.selected_on_test for cell in found):
        from paretune.reporting.text.conclusions import SELECTED_ON_TEST

        yield f"The checkpoints were {SELECTED_ON_TEST}."
