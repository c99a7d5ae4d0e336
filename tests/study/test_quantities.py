"""Sizes, durations and points as a user writes them."""

from __future__ import annotations

import pytest

from paretune.errors import StudyError
from paretune.study.quantities import DURATION, POINTS, SIZE


def test_sizes_durations_and_points() -> None:
    for text, value in {
        "4GiB": 4 * 2**30, "500 MB": 5e8, "1.5kB": 1500, "20mib": 20 * 2**20, "3B": 3,
        "1 TB": 1e12, "4,5GB": 4.5e9, "1.5TiB": 1.5 * 2**40, "4 GB": 4e9,
        "1,25 MB": 1.25e6, " 7 bytes ": 7
    }.items():  # fmt: skip
        assert SIZE.parse(text, "x") == value
    assert [DURATION.parse(t, "x") for t in ("90s", "10min", "2h")] == [90, 600, 7200]
    for text, value in {
        "1 hour": 3600, "90 minutes": 5400, "1 h 30 min": 5400, "1h30min": 5400, "0,5 h": 1800,
        "2 days": 172800, "1.5 Hours": 5400
    }.items():  # fmt: skip
        assert DURATION.parse(text, "x") == value
    assert POINTS.parse("0.5pt", "x") == 0.5
    assert SIZE.parse(12, "x") == 12
    texts = ("", "GiB", "4 GiB 2", "4 GiBs", "4 m", "1e9B", "nanB", "infs")
    for wrong in (*texts, -1, float("nan"), float("inf")):
        with pytest.raises(StudyError, match="invalid size"):
            SIZE.parse(wrong, "x")
