"""A time is repeated until its quartiles are close, and no longer than was allowed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, cycle, repeat
from typing import Any

import pytest

from paretune.measuring import clock
from paretune.measuring.clock import MAX_STEPS, MIN_STEPS, StepClock


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Callable[[], None]]:
    """``machine(seconds, ...)`` does something that takes these seconds, one after another."""
    now = [0.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])

    def doing(durations: Iterator[float]) -> Callable[[], None]:
        def once() -> None:
            now[0] += next(durations)

        return once

    return doing


def test_steady_steps_are_timed_a_few_times(machine: Any) -> None:
    result = StepClock(warm_up=2).repeat(machine(chain([9.0, 5.0], repeat(1.0))), 1e9)
    assert result == pytest.approx({"median": 1.0, "q1": 1.0, "q3": 1.0, "n": MIN_STEPS})


def test_unsteady_steps_are_timed_until_their_quartiles_are_close(machine: Any) -> None:
    """As 4.34 ms beside 1.85: one of them is no figure."""
    unsteady = chain([1.0], [4.34, 1.85, 4.34, 1.85, 4.3], repeat(1.85))
    result = StepClock(warm_up=1).repeat(machine(unsteady), 1e9)
    assert result["median"] == pytest.approx(1.85) and result["q3"] <= 1.85 * 1.1
    assert MIN_STEPS < result["n"] < MAX_STEPS and "timed_out" not in result


def test_what_never_settles_ends(machine: Any) -> None:
    result = StepClock(warm_up=1).repeat(machine(cycle([1.0, 3.0])), 1e9)
    assert result["n"] == MAX_STEPS and "timed_out" not in result


@pytest.mark.parametrize(
    ("step", "limit", "timed", "in_all"),
    [(58.0, 20.0, 1, 2), (8.0, 20.0, 1, 2), (5.0, 20.0, 2, 4), (2.0, 9.0, 2, 4)],
)
def test_long_steps_end_in_time_and_say_so(
    machine: Any, step: float, limit: float, timed: int, in_all: int
) -> None:
    """None is begun that would not end in time, but two always are: the second one counts."""
    one = StepClock(warm_up=2)
    result = one.repeat(machine(repeat(step)), limit)
    assert (result["n"], len(one.seconds), result["timed_out"]) == (timed, in_all, True)
    assert result["median"] == pytest.approx(step)
