"""Makes a study small enough for a time budget, in the order in which that costs the least.

Rows beyond some thousand and learning rates are given up first, then seeds (and with them the
sharpness of the verdict), then the costliest methods, and rows again. What is given up is said.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paretune.errors import StudyError
from paretune.reporting.text.formatting import format_seconds
from paretune.study import Study
from paretune.verbs.plan import Plan, total_seconds

MANY_ROWS, FEW_ROWS = (5000, 2000), (1000, 500, 200)
"""Training rows that a task is limited to, before and after other things are given up."""
FEW_SEEDS = 3
MIN_METHODS = 2

Values = dict[str, Any]
Planner = Callable[[Study], Plan]


def fit_to_budget(
    values: Values, budget_seconds: float, plan: Planner, parse: Callable[[Values], Study]
) -> tuple[list[str], Plan]:
    """Reduce the values of a study file of one task, in place, until its plan fits the budget.

    Args:
        values: of the study file; mappings may carry comments, which stay.
        budget_seconds: for everything that is left to do.
        plan: predicts a study.
        parse: makes a study of the values.

    Returns:
        What was reduced, in words, and the last plan.

    Raises:
        StudyError: the smallest study does not fit either, or its time cannot be predicted.
    """
    predicted, reduced = plan(parse(values)), []
    steps = [
        *(_limit_rows(rows) for rows in MANY_ROWS),
        _try_one_rate,
        _take_few_seeds,
        *[_drop_costliest_method] * max(len(values["methods"]) - MIN_METHODS, 0),
        *(_limit_rows(rows) for rows in FEW_ROWS),
    ]
    for step in steps:
        seconds = predicted.seconds_left
        if seconds is None or seconds <= budget_seconds:
            break
        text = step(values, predicted)
        if text:
            reduced.append(text)
            predicted = plan(parse(values))
    seconds = predicted.seconds_left
    if seconds is None or seconds > budget_seconds:
        known = "unknown" if seconds is None else format_seconds(seconds)
        raise StudyError(
            f"the smallest comparison is predicted to take {known}, and the budget is "
            f"{format_seconds(budget_seconds)}.",
            where="--budget",
            remedy="Allow more time, or name a smaller model.",
        )
    return reduced, predicted


Step = Callable[[Values, Plan], str]
"""Changes the values, and says how; "" where there is nothing to change."""


def _limit_rows(rows: int) -> Step:
    def limit(values: Values, predicted: Plan) -> str:
        task = values["tasks"][0]
        present = _count_train_rows(predicted)
        if present <= rows:
            return ""
        task["limit"] = {**task.get("limit", {}), "train": rows}
        return f"the first {rows:,} training rows of {present:,}"

    return limit


def _try_one_rate(values: Values, predicted: Plan) -> str:
    if values["protocol"]["trials"] == 1:
        return ""
    values["protocol"]["trials"] = 1
    return "one learning rate for each method, untuned"


def _take_few_seeds(values: Values, predicted: Plan) -> str:
    seeds = values["protocol"]["seeds"]
    if len(seeds) <= FEW_SEEDS:
        return ""
    del seeds[FEW_SEEDS:]
    return f"{FEW_SEEDS} seeds"


def _drop_costliest_method(values: Values, predicted: Plan) -> str:
    """Of the method that takes the most time."""
    named = {_method_key(method) for method in values["methods"]}
    seconds = {
        cell[2]: total_seconds(runs) or 0.0
        for cell, runs in predicted.cells.items()
        if cell[2] in named
    }
    costliest = max(seconds, key=lambda key: seconds[key])
    values["methods"][:] = [m for m in values["methods"] if _method_key(m) != costliest]
    return f"without {costliest}"


def _method_key(method: Any) -> str:
    if isinstance(method, str):
        return method
    return str(method.get("label") or method["name"])


def _count_train_rows(predicted: Plan) -> int:
    from paretune.tasks import load_dataset

    return len(load_dataset(predicted.study.tasks[0]).train)
