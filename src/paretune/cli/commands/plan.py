"""``paretune plan``: every run with its predicted time and memory, before anything starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.cli.json_output import check_json_output, run_fields, write_result
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
from paretune.cli.overrides import Overrides, load_overridden
from paretune.terminal import echo

if TYPE_CHECKING:
    from paretune.verbs.plan import Plan, PredictedRun

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
    from paretune.execution.progress.describe import format_duration
    from paretune.verbs.plan import plan as predict

    check_json_output(as_json, output)
    planned = predict(
        load_overridden(study, overrides),
        store=store,
        workers=workers,
        threads=threads,
        device=device,
        online=online,
    )
    if as_json:
        write_result("plan", _json_fields(planned), output)
        return
    for line in _run_lines(planned) if every else _cell_lines(planned):
        echo(f"{line}")
    last = planned.runs[-1]
    seconds = planned.seconds_left
    left = (
        "time left not known yet" if seconds is None else f"about {format_duration(seconds)} left"
    )
    echo(
        f"{len(planned.runs)} runs, {planned.done} done; {left} "
        f"with {planned.workers} workers of {planned.threads} thread(s) on {planned.device} "
        f"in {planned.precision}.\n"
        f"{_workers_sentence(planned)}"
        f"{_costs_sentence(planned)}"
        f"{_fleet_sentence(planned)}"
        f"{_weights_sentence(planned)}"
        "Early stopping makes it less, a busy machine more. Times rest on "
        f"{last.basis}, memory on {last.memory_basis}."
    )


def _workers_sentence(plan: Plan) -> str:
    """A line on memory, where it was asked how many may train at once."""
    from paretune.verbs.worker_sentence import explain_worker_count

    said = explain_worker_count(plan.worker_plan)
    return f"{said}\n" if said else ""


def _json_fields(plan: Plan) -> dict[str, Any]:
    told = ("done", "seconds", "peak_bytes", "basis", "memory_basis")
    return {
        "study": plan.study.study,
        "runs": [
            {**run_fields(e.run), **{name: getattr(e, name) for name in told}} for e in plan.runs
        ],
        **{name: getattr(plan, name) for name in PLANNED},
    }


def _costs_sentence(plan: Plan) -> str:
    """A line on the cost measurements that are left, and their bound."""
    from paretune.execution.progress.describe import format_duration
    from paretune.verbs.plan import total_seconds

    left = [run for run in plan.runs if run.run.stage == "cost" and not run.done]
    if not left:
        return ""
    seconds, bound = total_seconds(left), plan.study.protocol.cost_seconds
    about = "" if seconds is None else f", about {format_duration(seconds)}"
    number = f"{len(left)} cost measurement{'s' * (len(left) != 1)}"
    return (
        f"Of it {number}, one after the other{about}; steps of each are timed for at most "
        f"{bound:g} s (protocol.cost_seconds), answers for half as long.\n"
    )


def _cell_lines(plan: Plan) -> Iterable[str]:
    """One line for each cell, under its task; names are never cut."""
    from paretune.verbs.plan import total_seconds

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
                _format_time(total_seconds(runs)),
                _format_peak(runs),
            )
        )
    titles = ("model", "method", "runs", "done", "time", "peak memory")
    widths = [max(len(row[i + 1]) for row in [("", *titles), *rows]) for i in range(len(titles))]
    before = None
    for task, *cells in rows:
        if task != before:
            yield f"{task}"
            yield _format_row(titles, widths)
        before = task
        yield _format_row(cells, widths)
    yield "runs 3+5+1: 3 rates on trial, 5 final seeds, 1 cost measurement; time: all, one worker"


def _fleet_sentence(plan: Plan) -> str:
    """A line on fleets, or nothing where none would form."""
    unasked, asked = (
        sum(
            len(runs) for runs in plan.fleets if all(r.fleet_by_default for r in runs) == by_default
        )
        for by_default in (True, False)
    )
    if not unasked + asked:
        return ""
    most = max(min(len(runs), max(r.fleet_capacity for r in runs)) for runs in plan.fleets)
    left = len(plan.runs) - plan.done
    if not unasked:
        return f"With --fleet {most}, {asked} of {left} would train together, {most} at once.\n"
    more = f"; with --fleet {most}, {asked} more" if asked else ""
    return f"{unasked} of {left} train together on one backbone, {most} at once at most{more}.\n"


def _weights_sentence(plan: Plan) -> str:
    """A line on trained weights, so that nobody learns only afterwards which are not kept."""
    from paretune.reporting.text.formatting import format_bytes, pluralise

    best, every = plan.weight_bytes
    budget = plan.study.protocol.keep_weights
    if every <= budget:
        return f"Trained weights: {format_bytes(every)} for all final runs; all are kept.\n"
    if best <= budget:
        return (
            f"Trained weights: {format_bytes(every)} for all final runs, {format_bytes(best)} for the best of each "
            f"method; protocol.keep_weights keeps {format_bytes(budget)}, the best ones first.\n"
        )
    large = sum(max(e.weight_bytes for e in runs) > budget for runs in plan.cells.values())
    alone = f" {pluralise(large, 'method')} alone take{'s' * (large == 1)} more than that." * bool(
        large
    )
    return (
        f"Trained weights: {format_bytes(best)} for the best run of each method, and protocol.keep_weights "
        f"keeps {format_bytes(budget)}, the recommended first; `export --train-again` trains the others "
        f"once more.{alone}\n"
    )


def _format_row(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Names to the left, numbers to the right."""
    shown = [
        cell.ljust(width) if i < 2 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return ("  " + "  ".join(shown)).rstrip()


def _run_lines(plan: Plan) -> Iterable[str]:
    from paretune.execution.progress.describe import describe_run

    for expected in plan.runs:
        state = (
            "done"
            if expected.done
            else f"{_format_time(expected.seconds)}, {_format_peak([expected])}"
        )
        yield f"{describe_run(expected.run)}: {state}"


def _format_time(seconds: float | None) -> str:
    from paretune.execution.progress.describe import format_duration

    return "not known" if seconds is None else format_duration(seconds)


def _format_peak(runs: Sequence[PredictedRun]) -> str:
    from paretune.reporting.text.formatting import format_bytes

    peaks = [expected.peak_bytes for expected in runs if expected.peak_bytes is not None]
    return format_bytes(max(peaks)) if peaks else "-"
