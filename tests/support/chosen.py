"""Which cases of a large grid run: some in ``make test``, as many again in ``.ci/run``, or all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

SHARES = {
    "methods": 6,
    "training": 6,
    "exporting": 5,
    "oracle": 3,
    "models": 4,
    "objectives": 2,
    "hostile": 2,
    "cli": 3,
    "crash": 4,
    "execution": 3,
    "planning": 2,
}
"""Of folders whose tests train, open models or start processes: one case in how many runs."""
SMALL = 3
"""A test with fewer cases runs all of them."""
CHEAP = {
    "home",
    "tmp_path_factory",
    "request",
    "monkeypatch",
    "capsys",
    "caplog",
    "record_property",
}
"""Fixtures that make nothing: with no others a test is one of values, and takes milliseconds."""


def chosen(cases: Sequence[Any], share: int) -> list[Any]:
    """The cases with their marks: one in ``share`` runs by default, another is ``wide``.

    Args:
        cases: tuples of arguments, or what ``pytest.param`` gives.
    """
    marked = []
    for position, case in enumerate(cases):
        if isinstance(case, tuple) and hasattr(case, "marks"):
            marks = (*case.marks, *share_marks(position, share))
            marked.append(pytest.param(*case.values, id=case.id, marks=marks))
        else:
            marked.append(pytest.param(*case, marks=share_marks(position, share)))
    return marked


def share_marks(position: int, share: int) -> list[pytest.MarkDecorator]:
    """The marks of a case by its position: none, ``wide`` or ``slow``."""
    place = position % share
    if place == 0:
        return []
    return [pytest.mark.wide if place == share // 2 else pytest.mark.slow]


def mark_grids(items: Iterable[pytest.Item]) -> None:
    """Mark the cases of grids in the folders of :data:`SHARES` that ``make test`` leaves out.

    A grid is a test that has :data:`SMALL` cases or more and fixtures of its own, such as a model
    or a folder. Where its file has marked some cases, it is left as it is, and so are the walks of
    a contract (method_contract.py).
    """
    grids: dict[str, list[pytest.Function]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            grids.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for name, cases in grids.items():
        share = SHARES.get(name.split("/")[1].split("::")[0], 1) if "/" in name else 1
        fixtures = {*cases[0].fixturenames} - {*cases[0].callspec.params} - CHEAP
        left = [case for case in cases if case.get_closest_marker("slow") is None]
        by_file = any(case.get_closest_marker("wide") for case in cases)
        if len(left) < SMALL or not fixtures or by_file or "walk" in cases[0].fixturenames:
            continue
        for position, case in enumerate(left):
            for mark in share_marks(position, min(share, len(left))):
                case.add_marker(mark)
