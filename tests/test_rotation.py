"""Cases that take turns by day: within their days every one has run."""

from __future__ import annotations

from typing import Any

import pytest
from support import contract_places, rotation


def of_today(cases: list[Any]) -> set[Any]:
    return {case.values for case in cases if not any(mark.name == "slow" for mark in case.marks)}


@pytest.mark.parametrize("days", [2, 3, 7])
def test_every_case_has_its_turn(days: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [(name, size) for name in "abcdef" for size in (1, 2)]
    ran: list[Any] = []
    for day in range(days):
        monkeypatch.setattr(rotation, "TODAY", 800_000 + day)
        ran += of_today(rotation.in_turns(cases, days))
    assert sorted(ran) == sorted(cases)


def test_every_method_is_walked_on_bert_with_every_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """And on Marian; LoRA and prompt tuning on every family."""
    cases = {case.values[0] for case in contract_places.combinations()}
    ran: set[Any] = set()
    for day in range(8):
        monkeypatch.setattr(contract_places, "TODAY", 800_000 + day)
        ran |= {case[0] for case in of_today(contract_places.combinations())}
    for method, family, kind in cases:
        common = family == "bert" or method in ("lora", "prompt")
        encoder = family in contract_places.FAMILIES and kind != "classification"
        if (family, kind) == contract_places.ROTATING:
            continue  # what the day of this run has chosen
        if (common and encoder) or family == "marian":
            assert (method, family, kind) in ran


GRID = """
import pytest
from support.rotation import in_turns

@pytest.mark.parametrize("n", range(5))
def test_opens(n, tmp_path): pass

@pytest.mark.parametrize("n", range(5))
def test_of_values(n): pass

@pytest.mark.parametrize("n", [0, 1])
def test_small(n, tmp_path): pass

@pytest.mark.parametrize("n", [*in_turns([(n,) for n in range(4)], 2), pytest.param(9)])
def test_by_hand(n, tmp_path): pass
"""


def test_large_grids_of_what_opens_models_take_turns(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = 4
    monkeypatch.setitem(rotation.DAYS, "training", days)
    for folder in ("training", "study"):
        path = pytester.path / "tests" / folder
        path.mkdir(parents=True)
        (path / f"test_{folder}.py").write_text(GRID, encoding="utf-8")
    ran: list[str] = []
    for day in range(days):
        monkeypatch.setattr(rotation, "TODAY", 800_000 + day)
        items, _ = pytester.inline_genitems()
        rotation.rotate_grids(items)
        ran += [item.nodeid for item in items if item.get_closest_marker("slow") is None]
    once, always = "tests/training/test_training.py::", "tests/study/test_study.py::"
    for n in range(5):
        assert ran.count(f"{once}test_opens[{n}]") == 1
        assert ran.count(f"{once}test_of_values[{n}]") == days
        assert ran.count(f"{always}test_opens[{n}]") == days
    assert ran.count(f"{once}test_small[0]") == ran.count(f"{once}test_by_hand[9]") == days
