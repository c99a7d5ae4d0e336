"""A time budget for all of a comparison: what a study gives up for it, and what trains in it."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from paretune.errors import StudyError, spell_option
from paretune.execution.progress import format_duration
from paretune.study import Study
from paretune.study.study_file import open_yaml_editor

if TYPE_CHECKING:
    from paretune.verbs.plan import Plan

FIRST_SHARE = 0.5
"""Of a time budget, what first scores of all methods are predicted to take at most."""
MIN_ROWS = 200
END_SHARES = (0.05, 0.4)
"""Of a time budget, the least and the most that is kept for the report and the export."""
END_RATIO = 3.0
"""Time of stopping, report and export beside that of preparing (MiniLM-L6, LoRA: 1.4 on an idle
machine, 2.7 on two cores that three more processes keep busy)."""


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


def fit_to_budget(
    text: str,
    budget_seconds: float,
    plan: Callable[[Study], Plan],
    count_rows: Callable[[], int],
) -> tuple[str, list[str]]:
    """Shorten a study file of one task.

    No method is given up, and no seed: further seeds come last (:mod:`paretune.planning.budget`),
    as many as there is time for. What is left to shorten are the folds of the test, then learning
    rates, then training rows.

    Args:
        text: of the study file; its comments stay.
        budget_seconds: for all of the study.
        plan: predicts a study.
        count_rows: of train.

    Returns:
        The study file, and what was given up, in words.
    """
    yaml = open_yaml_editor()
    values = yaml.load(text)
    protocol, task = values["protocol"], values["tasks"][0]
    reduced: list[str] = []

    def predict(**changes: Any) -> tuple[Plan, bool]:
        """The plan, and whether it is too long; without costs, which have time of their own."""
        shorter = deepcopy(values)
        shorter["protocol"] |= {"cost_seconds": 0, **changes}
        predicted = plan(Study.parse(shorter))
        seconds = predicted.seconds_left
        return predicted, seconds is not None and seconds > FIRST_SHARE * budget_seconds

    first = {"seeds": protocol["seeds"][:1], "outer": "split"}
    predicted, is_too_long = predict()
    if is_too_long:
        if any(run.run.outer for run in predicted.runs):
            protocol["outer"] = "split"
            reduced.append("one test part, not fold by fold")
        predicted, is_too_long = predict(**first)
    if is_too_long and protocol["trials"] > 1:
        protocol["trials"] = 1
        reduced.append("one learning rate for each method, untuned")
        predicted, is_too_long = predict(**first)
    if is_too_long:
        rows = count_rows()
        fitting = rows * FIRST_SHARE * budget_seconds / (predicted.seconds_left or 0.0)
        unit = 10 ** max(0, len(str(int(fitting))) - 2)  # two digits
        fewer = max(MIN_ROWS, int(fitting // unit * unit))
        if fewer < rows:
            task["limit"] = {**task.get("limit", {}), "train": fewer}
            reduced.append(f"the first {fewer:,} training rows of {rows:,}")
    out = io.StringIO()
    yaml.dump(values, out)
    return out.getvalue(), reduced


def spell_budget(seconds: float) -> str:
    """``12min``, rounded up."""
    minutes = max(2, math.ceil(seconds / 60))
    step = 1 if minutes < 10 else 5 if minutes < 60 else 30
    return f"{math.ceil(minutes / step) * step}min"
