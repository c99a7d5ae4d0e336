"""Cases that take turns: by default one share of them runs a day, and all with ``-m slow`` too."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

TODAY = datetime.date.fromisoformat(os.environ["PARETUNE_TEST_DAY"]).toordinal()
DAYS = {
    "methods": 6,
    "training": 6,
    "exporting": 5,
    "oracle": 3,
    "models": 4,
    "objectives": 2,
    "hostile": 2,
    "cli": 3,
    "crash": 2,
    "execution": 3,
    "planning": 2,
    "reporting": 2,
}
"""Of folders whose tests train, open models or start processes: after how many days all cases of a
grid have run."""
SMALL = 3
"""A test with fewer cases runs all of them."""
CHEAP = {"home", "request", "monkeypatch", "capsys", "caplog", "record_property"}
"""Fixtures that make nothing: with no others a test is one of values, and takes milliseconds."""


def in_turns(cases: Sequence[Any], days: int) -> list[Any]:
    """The cases, of which each runs by default on one day of ``days``; else it is marked slow.

    Args:
        cases: tuples of arguments, or what ``pytest.param`` gives.
        days: so that every case has had its turn after as many days.
    """
    turns = []
    for position, case in enumerate(cases):
        mark = turn_mark(position, days)
        if isinstance(case, tuple) and hasattr(case, "marks"):
            turns.append(pytest.param(*case.values, id=case.id, marks=(*case.marks, mark)))
        else:
            turns.append(pytest.param(*case, marks=mark))
    return turns


def turn_mark(turn: int, days: int) -> pytest.MarkDecorator:
    """``of_today`` on one day of ``days``, on the others ``slow``; of a test, or of a case."""
    return pytest.mark.of_today if (turn + TODAY) % days == 0 else pytest.mark.slow


def rotate_grids(items: Iterable[pytest.Item]) -> None:
    """Mark those cases of grids as slow that are not of the day, in the folders of ``DAYS``.

    A grid is a test that has :data:`SMALL` cases or more and fixtures of its own, such as a model
    or a folder; those whose own file lets them take turns (``of_today``) are left as they are.
    Walks of a contract are none: which places are walked is said where they are listed
    (contract_places.py), and all tests look at what has been walked.
    """
    grids: dict[str, list[pytest.Item]] = {}
    for item in items:
        if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
            continue
        placed = any(item.get_closest_marker(name) for name in ("slow", "of_today"))
        fixtures = {*item.fixturenames} - {*item.callspec.params} - CHEAP
        if fixtures and not placed and "walk" not in item.fixturenames:
            grids.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for name, cases in grids.items():
        days = DAYS.get(name.split("/")[1].split("::")[0], 1) if "/" in name else 1
        if len(cases) < SMALL:
            continue
        for position, case in enumerate(cases):
            if (position + TODAY) % min(days, len(cases)):
                case.add_marker(pytest.mark.slow)
