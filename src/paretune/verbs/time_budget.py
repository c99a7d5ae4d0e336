"""Makes a study short enough for a first score of every method within a time budget.

No method is given up, and seeds neither: further ones come last
(:mod:`paretune.search.budget`), as many as there is time for. What is left to shorten are learning
rates, then training rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

FIRST_SHARE = 0.5
"""Of a time budget, what first scores of all methods are predicted to take at most."""
MIN_ROWS = 200

Values = dict[str, Any]


def fit_to_budget(
    values: Values,
    budget_seconds: float,
    predict: Callable[[Values], float | None],
    count_rows: Callable[[], int],
) -> list[str]:
    """Shorten the values of a study file of one task, in place.

    Args:
        values: of the study file; mappings may carry comments, which stay.
        budget_seconds: for all of the study.
        predict: seconds that the runs of a study file with such values take; None: not known.
        count_rows: of train.

    Returns:
        What was given up, in words.
    """
    most = FIRST_SHARE * budget_seconds
    seconds = predict(_first_scores(values))
    given_up = []
    if seconds is not None and seconds > most and values["protocol"]["trials"] > 1:
        values["protocol"]["trials"] = 1
        given_up.append("one learning rate for each method, untuned")
        seconds = predict(_first_scores(values))
    if seconds is not None and seconds > most:
        rows = count_rows()
        fewer = max(MIN_ROWS, _round_down(rows * most / seconds))
        if fewer < rows:
            task = values["tasks"][0]
            task["limit"] = {**task.get("limit", {}), "train": fewer}
            given_up.append(f"the first {fewer:,} training rows of {rows:,}")
    return given_up


def _first_scores(values: Values) -> Values:
    """The study with one seed, tested once, without costs."""
    first: Values = json.loads(json.dumps(values))
    first["protocol"] |= {"seeds": first["protocol"]["seeds"][:1], "outer": "split"}
    first["protocol"]["cost_seconds"] = 0
    return first


def _round_down(count: float) -> int:
    """To two digits."""
    unit = 10 ** max(0, math.floor(math.log10(max(count, 1))) - 1)
    return int(count // unit * unit)
