"""``paretune plan``: every run with its predicted time and memory, before anything starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.cli.json_output import asked, give, of_run
from paretune.cli.options import (
    AsJson,
    Device,
    JsonFile,
    Online,
    StoreFolder,
    StudyName,
    Threads,
    Workers,
)
from paretune.cli.overrides import Overrides, overridden
from paretune.terminal import say

if TYPE_CHECKING:
    from paretune.verbs.plan import Expected, Plan

PLANNED = ("done", "seconds_left", "workers", "threads", "device", "precision")


def plan(
    study: StudyName,
    overrides: Overrides = None,
    store: StoreFolder = None,
    workers: Workers = None,
    threads: Threads = 1,
    device: Device = "auto",
    online: Online = False,
    every: Annotated[
        bool, typer.Option("--every", help="A line for every run, not for every cell.")
    ] = False,
    as_json: AsJson = False,
    output: JsonFile = None,
) -> None:
    """Show what a study would run, how long it takes and what it needs.

    Nothing is started or written. Runs that ended already are known from the store.
    """
    from paretune.execution.wording import duration
    from paretune.verbs.plan import plan as predict

    asked(as_json, output)
    planned = predict(
        overridden(study, overrides),
        store=store,
        workers=workers,
        threads=threads,
        device=device,
        online=online,
    )
    if as_json:
        give("plan", _fields(planned), output)
        return
    for line in _runs(planned) if every else _cells(planned):
        say(f"{line}")
    last = planned.runs[-1]
    seconds = planned.seconds_left
    left = "time left not known yet" if seconds is None else f"about {duration(seconds)} left"
    say(
        f"{len(planned.runs)} runs, {planned.done} done; {left} "
        f"with {planned.workers} workers of {planned.threads} thread(s) on {planned.device} "
        f"in {planned.precision}.\n"
        f"{_workers(planned)}"
        f"{_costs(planned)}"
        f"{_together(planned)}"
        f"{_weights(planned)}"
        "Early stopping makes it less, a busy machine more. Times rest on "
        f"{last.basis}, memory on {last.memory_basis}."
    )


def _workers(plan: Plan) -> str:
    """A line on memory, where it was asked how many may train at once."""
    from paretune.verbs.employed import why

    said = why(plan.employed)
    return f"{said}\n" if said else ""


def _fields(plan: Plan) -> dict[str, Any]:
    told = ("done", "seconds", "peak_bytes", "basis", "memory_basis")
    return {
        "study": plan.study.study,
        "runs": [{**of_run(e.run), **{name: getattr(e, name) for name in told}} for e in plan.runs],
        **{name: getattr(plan, name) for name in PLANNED},
    }


def _costs(plan: Plan) -> str:
    """A line on the cost measurements that are left, and their bound."""
    from paretune.execution.wording import duration
    from paretune.verbs.plan import seconds_of

    left = [run for run in plan.runs if run.run.stage == "cost" and not run.done]
    if not left:
        return ""
    seconds, bound = seconds_of(left), plan.study.protocol.cost_seconds
    about = "" if seconds is None else f", about {duration(seconds)}"
    number = f"{len(left)} cost measurement{'s' * (len(left) != 1)}"
    return (
        f"Of it {number}, one after the other{about}; steps of each are timed for at most "
        f"{bound:g} s (protocol.cost_seconds), answers for half as long.\n"
    )


def _cells(plan: Plan) -> Iterable[str]:
    """One line for each cell, under its task; names are never cut."""
    from paretune.verbs.plan import seconds_of

    rows = []
    for (task, model, method), runs in plan.cells.items():
        stages = Counter(expected.run.stage for expected in runs)
        done = sum(expected.done for expected in runs)
        rows.append(
            (
                task,
                model,
                method,
                "+".join(str(stages[stage]) for stage in ("tune", "final", "cost")),
                f"{done}/{len(runs)}",
                _time(seconds_of(runs)),
                _peak(runs),
            )
        )
    titles = ("model", "method", "runs", "done", "time", "peak memory")
    widths = [max(len(row[i + 1]) for row in [("", *titles), *rows]) for i in range(len(titles))]
    before = None
    for task, *cells in rows:
        if task != before:
            yield f"{task}"
            yield _line(titles, widths)
        before = task
        yield _line(cells, widths)
    yield "runs 3+5+1: 3 rates on trial, 5 final seeds, 1 cost measurement; time: all, one worker"


def _together(plan: Plan) -> str:
    """A line on fleets, or nothing where none would form."""
    unasked, asked = (
        sum(len(runs) for runs in plan.fleets if all(r.unasked for r in runs) == by_default)
        for by_default in (True, False)
    )
    if not unasked + asked:
        return ""
    most = max(min(len(runs), max(r.seats for r in runs)) for runs in plan.fleets)
    left = len(plan.runs) - plan.done
    if not unasked:
        return f"With --fleet {most}, {asked} of {left} would train together, {most} at once.\n"
    more = f"; with --fleet {most}, {asked} more" if asked else ""
    return f"{unasked} of {left} train together on one backbone, {most} at once at most{more}.\n"


def _weights(plan: Plan) -> str:
    """A line on trained weights, so that nobody learns only afterwards which are not kept."""
    from paretune.report.words import counted, size

    best, every = plan.weight_bytes
    budget = plan.study.protocol.keep_weights
    if every <= budget:
        return f"Trained weights: {size(every)} for all final runs; all are kept.\n"
    if best <= budget:
        return (
            f"Trained weights: {size(every)} for all final runs, {size(best)} for the best of each "
            f"method; protocol.keep_weights keeps {size(budget)}, the best ones first.\n"
        )
    large = sum(max(e.weight_bytes for e in runs) > budget for runs in plan.cells.values())
    alone = f" {counted(large, 'method')} alone take{'s' * (large == 1)} more than that." * bool(
        large
    )
    return (
        f"Trained weights: {size(best)} for the best run of each method, and protocol.keep_weights "
        f"keeps {size(budget)}, the recommended first; `export --train-again` trains the others "
        f"once more.{alone}\n"
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Names to the left, numbers to the right."""
    shown = [
        cell.ljust(width) if i < 2 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return ("  " + "  ".join(shown)).rstrip()


def _runs(plan: Plan) -> Iterable[str]:
    from paretune.execution.wording import described

    for expected in plan.runs:
        state = "done" if expected.done else f"{_time(expected.seconds)}, {_peak([expected])}"
        yield f"{described(expected.run)}: {state}"


def _time(seconds: float | None) -> str:
    from paretune.execution.wording import duration

    return "not known" if seconds is None else duration(seconds)


def _peak(runs: Sequence[Expected]) -> str:
    from paretune.report.words import size

    peaks = [expected.peak_bytes for expected in runs if expected.peak_bytes is not None]
    return size(max(peaks)) if peaks else "-"
