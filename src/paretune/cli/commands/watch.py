"""``paretune watch``: a running study on the terminal, read from its store. Needs no torch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.cli.json_output import run_fields, write_result
from paretune.cli.options import JsonOptions, StoreFolder, StudyArguments, with_option_groups
from paretune.terminal import console, sanitise_line

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from paretune.verbs.watch import CellProgress, StudyProgress

POLL_SECONDS = 2.0
MAX_FAILURES = 3
"""How many failed runs are listed; `paretune report` has all."""


@with_option_groups
def watch(
    study: StudyArguments,
    json: JsonOptions,
    store: StoreFolder = None,
    once: Annotated[bool, typer.Option("--once", help="Show it once and exit.")] = False,
    every: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0.2, help="Polling interval. [default: 2]"),
    ] = None,
) -> None:
    """Follow a study while it runs.

    Reads the store and writes nothing. Exits when the study is done, or at Ctrl-C, which does not
    touch the study. Shows it once where the output is no terminal.
    """
    from rich.live import Live

    from paretune.errors import StudyError
    from paretune.verbs.watch import open_progress

    if every is not None and (once or json.as_json):
        raise StudyError(
            f"has no meaning with {'--json' if json.as_json else '--once'}, which looks once.",
            where="--every",
            remedy="Leave out one of them.",
        )
    out = console()
    with open_progress(study.load(), store) as read_progress:
        if json.as_json:
            write_result("watch", _json_fields(read_progress()), json.output)
            return
        if once or not out.is_terminal or out.is_dumb_terminal:
            out.print(render_progress(read_progress(), study.as_typed()))
            return
        try:
            with Live(console=out, auto_refresh=False) as live:
                while True:
                    progress = read_progress()
                    live.update(render_progress(progress, study.as_typed()), refresh=True)
                    if progress.finished:
                        return
                    time.sleep(every or POLL_SECONDS)
        except KeyboardInterrupt:
            out.print("Stopped watching; the study itself was not touched.")


def _json_fields(progress: StudyProgress) -> dict[str, Any]:
    return {
        "study": progress.study.study,
        "over": progress.finished,
        "ended": progress.ended,
        "total": progress.total,
        "workers": progress.workers,
        "seconds": progress.seconds,
        "seconds_left": progress.seconds_left,
        "spared": progress.spared and vars(progress.spared),
        "running": [
            {**run_fields(state.run), "seconds": state.seconds, "progress": state.progress}
            for state in progress.running
        ],
        "failed": [
            {**run_fields(state.run), "run_id": state.run_id, "message": state.message}
            for state in progress.failed
        ],
        "cells": [
            {
                "task": one.cell.task,
                "model": one.cell.model,
                "method": one.cell.method,
                "done": one.done,
                "running": one.running,
                "waiting": one.waiting,
                "failed": one.failed,
                "seconds": one.seconds,
                "score": one.cell.interval,
            }
            for one in progress.cells
        ],
    }


def render_progress(progress: StudyProgress, study: str) -> Group:
    """Lines, and a table for each task; ``study`` is how the user names the study."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Text | Table] = [Text(sanitise_line(progress.study.study), style="bold")]
    parts += [Text(sanitise_line(line)) for line in _summary_lines(progress, study)]
    parts += [Text(f"  {sanitise_line(line)}") for line in _running_lines(progress)]
    parts += [Text(f"  {sanitise_line(line)}", style="red") for line in _failure_lines(progress)]
    for (task, model), group in groupby(progress.cells, _group_key):
        parts += [
            Text(sanitise_line(f"\n{task}, {model}".strip("\n"))),
            _cell_table(list(group)),
        ]
    parts += [Text(line, style="dim") for line in _legend_lines(progress)]
    return Group(*parts)


def _group_key(progress: CellProgress) -> tuple[str, str]:
    from paretune.analysis.cell import NO_MODEL

    model = progress.cell.model
    return progress.cell.task, "no model" if model == NO_MODEL else model


def _summary_lines(progress: StudyProgress, study: str) -> Iterator[str]:
    from paretune.execution.progress.describe import format_duration
    from paretune.terminal.plural import pluralise

    counts = [f"{progress.ended} of {pluralise(progress.total, 'run')} ended"]
    if progress.failed:
        counts.append(f"{len(progress.failed)} of them failed")
    if progress.running:
        counts.append(f"{len(progress.running)} running")
    if progress.unscheduled:
        counts.append(f"{progress.unscheduled} not asked for before their rate is chosen")
    yield f"{', '.join(counts)}; {format_duration(progress.seconds)} of work so far."
    if progress.finished:
        yield f"Done: paretune report {study}"
    elif not progress.running:
        yield f"Nobody works on it now: paretune run {study} continues it."
    elif progress.seconds_left is None:
        yield "Too little has ended to say how long it takes."
    else:
        workers = pluralise(progress.workers, "worker")
        time_left = format_duration(progress.seconds_left)
        yield f"About {time_left} left with {workers}, as the runs so far took."
    if progress.abandoned:
        yield f"{pluralise(len(progress.abandoned), 'run')} left by a worker that is gone: waiting."


def _running_lines(progress: StudyProgress) -> Iterator[str]:
    from paretune.execution.progress.describe import describe_run, describe_step, format_duration

    for state in progress.running:
        seconds = "" if state.seconds is None else f", {format_duration(state.seconds)}"
        yield f"{describe_run(state.run)}: {describe_step(state)}{seconds}"


def _failure_lines(progress: StudyProgress) -> Iterator[str]:
    from paretune.execution.progress.describe import describe_end, describe_run

    for state in progress.failed[-MAX_FAILURES:]:
        yield f"{describe_run(state.run)}: {describe_end(state).splitlines()[0]}"
    if (more := len(progress.failed) - MAX_FAILURES) > 0:
        yield f"and {more} more that failed; paretune report tells why"


def _cell_table(cells: list[CellProgress]) -> Table:
    """Fixed widths, so that the tables of all tasks align; 80 columns are enough."""
    from rich.table import Table
    from rich.text import Text

    from paretune.execution.progress.describe import format_duration
    from paretune.methods.core.titles import title_of

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("  method", width=18, overflow="fold")
    for title, width in (("done", 4), ("now", 4), ("wait", 4), ("fail", 4), ("time", 10)):
        table.add_column(title, justify="right", min_width=width, no_wrap=True)
    table.add_column("score [95 %]", justify="right", min_width=17, no_wrap=True)
    table.add_column("n x seeds", justify="right", min_width=9, no_wrap=True)
    for one in cells:
        counts = (one.done, one.running, one.waiting, one.failed)
        texts = [f"  {sanitise_line(title_of(one.cell.method))}", *map(str, counts)]
        texts += [format_duration(one.seconds) if one.seconds else "-", *_format_score(one)]
        style = "bold" if one.running else "dim" if one.cell.baseline else ""
        table.add_row(*map(Text, texts), style=style)
    return table


def _format_score(progress: CellProgress) -> tuple[str, str]:
    """The score with its interval, and of how many examples and seeds; never the score alone."""
    from paretune.reporting.text.formatting import format_interval, format_n_by_seeds

    interval = progress.cell.interval
    if interval is None:
        return "-", "-"
    return format_interval(interval), format_n_by_seeds(interval)


def _legend_lines(progress: StudyProgress) -> Iterator[str]:
    from paretune.execution.progress.describe import format_duration
    from paretune.terminal.plural import pluralise

    if (spared := progress.spared) is not None:
        runs = pluralise(spared.runs, "final run")
        yield (
            f"A race: {runs} spared ({format_duration(spared.seconds)}); of those waiting it may "
            f"spare {spared.undecided}."
        )
    scored = [one.cell for one in progress.cells if one.cell.interval]
    yield "Runs done, running now, waiting, failed; the time is that of each run's last attempt."
    if scored:
        yield (
            "Score: the final runs so far, on the test part; the interval is over seeds and "
            "examples, of one seed over examples only. Who is ahead now may not stay ahead: "
            "paretune report says what is proven."
        )
    if any(cell.selected_on_test for cell in scored):
        from paretune.reporting.text.conclusions import SELECTED_ON_TEST

        yield f"The checkpoints were {SELECTED_ON_TEST}."
