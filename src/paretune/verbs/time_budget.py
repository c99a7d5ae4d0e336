"""Makes a study short enough for a first score of every method within a time budget.

No method is given up, and seeds neither: further ones come last
(:mod:`paretune.search.budget`), as many as there is time for. What is left to shorten are the folds
of the test, then learning rates, then training rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from paretune.study import Study
from paretune.verbs.plan import Plan

FIRST_SHARE = 0.5
"""Of a time budget, what first scores of all methods are predicted to take at most."""
MIN_ROWS = 200

Values = dict[str, Any]


def fit_to_budget(
    values: Values,
    budget_seconds: float,
    plan: Callable[[Study], Plan],
    count_rows: Callable[[], int],
) -> list[str]:
    """Shorten the values of a study file of one task, in place.

    Args:
        values: of the study file; mappings may carry comments, which stay.
        budget_seconds: for all of the study.
        plan: predicts a study.
        count_rows: of train.

    Returns:
        What was given up, in words.
    """
    protocol, task = values["protocol"], values["tasks"][0]
    given_up: list[str] = []

    def predict(**changes: Any) -> Plan:
        """Without costs, which have their own part of the time."""
        copy: Values = json.loads(json.dumps(values))
        copy["protocol"] |= {"cost_seconds": 0, **changes}
        return plan(Study.parse(copy))

    def is_too_long(predicted: Plan) -> bool:
        seconds = predicted.seconds_left
        return seconds is not None and seconds > FIRST_SHARE * budget_seconds

    if is_too_long(whole := predict()) and any(run.run.outer for run in whole.runs):
        protocol["outer"] = "split"
        given_up.append("one test part, not fold by fold")
    first = {"seeds": protocol["seeds"][:1], "outer": "split"}
    predicted = predict(**first) if is_too_long(whole) else whole
    if is_too_long(predicted) and protocol["trials"] > 1:
        protocol["trials"] = 1
        given_up.append("one learning rate for each method, untuned")
        predicted = predict(**first)
    if is_too_long(predicted):
        rows, seconds = count_rows(), predicted.seconds_left or 0.0
        share = FIRST_SHARE * budget_seconds / seconds
        fewer = max(MIN_ROWS, _round_down(rows * share))
        if fewer < rows:
            task["limit"] = {**task.get("limit", {}), "train": fewer}
            given_up.append(f"the first {fewer:,} training rows of {rows:,}")
    return given_up


def _round_down(count: float) -> int:
    """To two digits."""
    unit = 10 ** max(0, math.floor(math.log10(max(count, 1))) - 1)
    return int(count // unit * unit)
