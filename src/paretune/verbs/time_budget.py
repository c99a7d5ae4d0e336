"""Divides a time budget, and says beforehand which methods get a first score within it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from paretune.errors import StudyError, spell_option
from paretune.execution.progress import format_duration
from paretune.methods import baselines
from paretune.methods.core.titles import title_of
from paretune.planning.budget import fit_within_time
from paretune.reporting.text.formatting import join_names
from paretune.terminal.sanitise import sanitise_line

if TYPE_CHECKING:
    from paretune.verbs.plan import Plan, PredictedRun

END_SHARES = (0.02, 0.2)
"""The least and the most of a time budget that is kept for the report and the export."""
END_RATIO = 10.0
"""Time of imports, stopping, report and export beside that of preparing (MiniLM, 150 texts, two
cores of an idle Xeon: 4, 4 and 5 s beside 1 s)."""


def divide_time(seconds: float, elapsed: float) -> float:
    """Seconds for training, of a budget of which some have gone into preparing it.

    Stopping, report and export take longer in proportion, since the machine is as busy.

    Raises:
        StudyError: none are left.
    """
    least, most = (share * seconds for share in END_SHARES)
    left = seconds - elapsed - min(max(END_RATIO * elapsed, least), most)
    if left <= 0:
        raise StudyError(
            f"{format_duration(seconds)} are too short: to prepare the comparison took "
            f"{format_duration(elapsed)}. Nothing was trained.",
            where=spell_option("budget"),
            remedy=f"Allow more, such as {spell_option('budget', spell_budget(10 * elapsed))}.",
        )
    return left


def measure_load(workers: int) -> float:
    """How much longer runs take than on an idle machine, by what else it does; 1 where unknown."""
    if not hasattr(os, "getloadavg"):
        return 1.0  # Windows does not say how busy it is
    return max(1.0, (os.getloadavg()[0] + workers) / (os.cpu_count() or 1))


def describe_fit(plan: Plan, seconds: float) -> str:
    """Say for which methods a first score fits into the time, and how long the first pass takes.

    Args:
        seconds: for training.
    """
    load = measure_load(plan.workers)
    left = [p for p in plan.runs if not p.done and p.run.stage != "cost"]
    total = plan.seconds_left
    if total is None:
        return "How long the runs take is not known before the first has ended."
    whole = f"the first pass of all takes about {format_duration(load * total)}"
    first: dict[tuple[str, str, str], PredictedRun] = {}
    for predicted in left:
        if predicted.run.method.name not in baselines.NAMES:
            first.setdefault(predicted.run.cell, predicted)
    costs = {p.run: load * (p.cost.seconds or 0.0) for p in left}
    fitting = fit_within_time([p.run for p in left], seconds, plan.workers, costs.get)
    ended = {p.run for p, fits in zip(left, fitting, strict=True) if fits}
    missing = [p for p in first.values() if p.run not in ended]
    if not missing:
        return f"Predicted: a first score of every method in time; {whole}."
    further = sum(costs[p.run] for p in missing) / plan.workers
    if len(missing) == len(first):
        shortest = min(missing, key=lambda p: costs[p.run])
        run_time = format_duration(costs[shortest.run])
        return (
            f"{format_duration(seconds)} for training hold the baselines alone: one run of "
            f"{_name([shortest])} takes about {run_time}; {whole}."
        )
    return (
        f"Predicted: no time for {_name(missing)}, whose first scores take about "
        f"{format_duration(further)} more; {whole}."
    )


def _name(runs: Sequence[PredictedRun]) -> str:
    names = dict.fromkeys(sanitise_line(title_of(p.run.method.key)) for p in runs)
    return join_names([*names])


def spell_budget(seconds: float) -> str:
    """``12min``, rounded up."""
    minutes = max(2, math.ceil(seconds / 60))
    step = 1 if minutes < 10 else 5 if minutes < 60 else 30
    return f"{math.ceil(minutes / step) * step}min"
