"""``paretune plan``: every run with its predicted time and memory, before anything starts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.cli.json_output import run_fields, to_json_value, write_result
from paretune.cli.options import (
    JsonOptions,
    StoreFolder,
    StudyArguments,
    WorkerOptions,
    with_option_groups,
)
from paretune.terminal import echo
from paretune.terminal.plural import pluralise

if TYPE_CHECKING:
    from paretune.verbs.plan import Plan


@with_option_groups
def plan(
    study: StudyArguments,
    workers: WorkerOptions,
    json: JsonOptions,
    store: StoreFolder = None,
    every: Annotated[
        bool, typer.Option("--every", help="A line for every run, not for every cell.")
    ] = False,
) -> None:
    """Predict the time and memory of a study.

    Nothing is started or written. Runs that ended already are known from the store.
    """
    from paretune.verbs.plan import plan as plan_study
    from paretune.verbs.study_input import describe_test_files

    planned = plan_study(study.load(), store=store, **vars(workers))
    if json.as_json:
        write_result("plan", _json_fields(planned), json.output)
        return
    for line in _run_lines(planned) if every else planned.list_cells():
        echo(line)
    for sentence in describe_test_files(planned.study):
        echo(sentence)
    for finding in planned.impossible:
        echo(f"Not possible: {finding}")
    for sentence in planned.searches:
        echo(f"Search: {sentence}")
    for sentence in planned.too_large:
        echo(f"Does not fit: {sentence}")
    last = planned.runs[-1]
    echo("\n".join([planned.summary, *planned.memory_limits]))
    echo(
        f"{_race_sentence(planned)}"
        f"{_costs_sentence(planned)}"
        f"{_fleet_sentence(planned)}"
        f"{_weights_sentence(planned)}"
        "Early stopping may shorten this, a busy machine lengthen it.\n"
        f"Times are estimated from {last.basis}, memory from {last.memory_basis}."
    )


def _json_fields(plan: Plan) -> dict[str, Any]:
    return {
        "study": plan.study.study,
        "runs": [
            {
                **run_fields(run.run),
                "done": run.done,
                "seconds": run.seconds,
                "peak_bytes": run.peak_bytes,
                "basis": run.basis,
                "memory_basis": run.memory_basis,
            }
            for run in plan.runs
        ],
        "done": plan.done,
        "seconds_left": plan.seconds_left,
        "workers": plan.workers,
        "threads": plan.devices[0].threads,
        "device": plan.devices[0].device,
        "devices": [settings.device for settings in plan.devices],
        "precision": plan.precision,
        "too_large": list(plan.too_large),
        "impossible": to_json_value(plan.impossible),
        "race": None if plan.study.protocol.race == "off" else _race_fields(plan),
        **({"searches": list(plan.searches)} if plan.searches else {}),
    }


def _race_fields(plan: Plan) -> dict[str, Any]:
    """Runs and their seconds one after another: spared so far, and those that may yet be."""
    from paretune.verbs.plan import total_seconds

    undecided = [run for run in plan.runs if run.undecided]
    return {
        "spared_runs": len(plan.given_up),
        "spared_seconds": total_seconds(plan.given_up),
        "undecided_runs": len(undecided),
        "undecided_seconds": total_seconds(undecided),
    }


def _race_sentence(plan: Plan) -> str:
    """What a race has spared, and what it may still spare; nothing without a race."""
    from paretune.verbs.plan import format_time

    if plan.study.protocol.race == "off":
        return ""
    fields = _race_fields(plan)
    spared, undecided = fields["spared_runs"], fields["undecided_runs"]
    return (
        f"A race to the {plan.study.protocol.race}: {pluralise(spared, 'run')} spared so far "
        f"({format_time(fields['spared_seconds'])}, one worker); it may spare {undecided} more "
        f"({format_time(fields['undecided_seconds'])}).\n"
    )


def _costs_sentence(plan: Plan) -> str:
    """A line on the cost measurements that are left, and their bound."""
    from paretune.execution.progress import format_duration
    from paretune.verbs.plan import total_seconds

    left = [run for run in plan.runs if run.run.stage == "cost" and not run.done]
    if not left:
        return ""
    seconds, bound = total_seconds(left), plan.study.protocol.cost_seconds
    about = "" if seconds is None else f", about {format_duration(seconds)}"
    return (
        f"This includes {pluralise(len(left), 'cost measurement')}, one at a time{about}: training "
        f"steps are timed for at most {bound:g} s each (protocol.cost_seconds), inference for "
        f"{bound / 2:g} s.\n"
    )


def _fleet_sentence(plan: Plan) -> str:
    """A line on fleets, or nothing where none would form."""
    by_default = optional = 0
    for runs in plan.fleets:
        if all(run.fleet_by_default for run in runs):
            by_default += len(runs)
        else:
            optional += len(runs)
    if not by_default + optional:
        return ""
    most = max(min(len(runs), max(r.fleet_capacity for r in runs)) for runs in plan.fleets)
    left = len(plan.runs) - plan.done
    if not by_default:
        return f"With --fleet {most}, {optional} of {left} would train together, {most} at once.\n"
    more = f"; with --fleet {most}, {optional} more" if optional else ""
    return f"{by_default} of {left} train together on one backbone, at most {most} at once{more}.\n"


def _weights_sentence(plan: Plan) -> str:
    """A line on trained weights, so that nobody learns only afterwards which are not kept."""
    from paretune.reporting.text.formatting import format_bytes

    best_bytes, all_bytes = plan.weight_bytes
    budget_bytes = plan.study.protocol.keep_weights
    best, budget = format_bytes(best_bytes), format_bytes(budget_bytes)
    if all_bytes <= budget_bytes:
        return f"Trained weights: {format_bytes(all_bytes)} for all final runs; all are kept.\n"
    if best_bytes <= budget_bytes:
        return (
            f"Trained weights: {format_bytes(all_bytes)} for all final runs, {best} for the best "
            f"of each method; protocol.keep_weights keeps {budget}, the best ones first.\n"
        )
    too_large = sum(
        max(run.weight_bytes for run in runs) > budget_bytes for runs in plan.cells.values()
    )
    alone = ""
    if too_large:
        verb = "takes" if too_large == 1 else "take"
        alone = f" {pluralise(too_large, 'method')} alone {verb} more than that."
    return (
        f"Trained weights: {best} for the best run of each method, and protocol.keep_weights "
        f"keeps {budget}, the recommended first; `export --train-again` trains the others once "
        f"more.{alone}\n"
    )


def _run_lines(plan: Plan) -> Iterable[str]:
    from paretune.execution.progress import describe_run
    from paretune.verbs.plan import format_peak, format_time

    for run in plan.runs:
        state = "done" if run.done else f"{format_time(run.seconds)}, {format_peak([run])}"
        yield f"{describe_run(run.run)}: {state}"
