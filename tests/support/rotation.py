"""Cases that take turns: by default one share of them runs a day, and all with ``-m slow`` too."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from typing import Any

import pytest

TODAY = datetime.date.fromisoformat(os.environ["PARETUNE_TEST_DAY"]).toordinal()


def in_turns(cases: Sequence[Any], days: int) -> list[Any]:
    """The cases, of which each runs by default on one day of ``days``; else it is marked slow.

    Args:
        cases: tuples of arguments, or what ``pytest.param`` gives.
        days: so that every case has had its turn after as many days.
    """
    turns = []
    for position, case in enumerate(cases):
        if (position + TODAY) % days == 0:
            turns.append(case)
        elif isinstance(case, tuple) and hasattr(case, "marks"):
            marks = (*case.marks, pytest.mark.slow)
            turns.append(pytest.param(*case.values, id=case.id, marks=marks))
        else:
            turns.append(pytest.param(*case, marks=pytest.mark.slow))
    return turns
