"""Step times: what counts, and its quartiles."""

from __future__ import annotations

import time

import pytest
import torch

from paretune.measuring.clock import StepClock


def test_warm_up_steps_are_not_counted_and_quartiles_are_those_of_the_rest():
    clock = StepClock(warm_up=2)
    clock.seconds = [100.0, 90.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert clock.summary() == {"median": 3.0, "q1": 2.0, "q3": 4.0, "n": 5}


def test_a_step_takes_as_long_as_what_is_inside(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    clock = StepClock(warm_up=1)
    for _ in range(4):
        with clock.step():
            now[0] += 0.25
        now[0] += 5.0  # between steps: not counted
    assert clock.summary() == {"median": 0.25, "q1": 0.25, "q3": 0.25, "n": 3}


def test_its_seconds_are_real_ones():
    clock = StepClock(warm_up=0)
    with clock.step():
        time.sleep(0.01)
    assert clock.median() >= 0.01


def test_nothing_after_warm_up_is_none_and_not_zero():
    clock = StepClock(warm_up=3)
    for _ in range(3):
        with clock.step():
            pass
    assert clock.summary() is None


def test_a_step_that_raises_is_not_counted():
    clock = StepClock(warm_up=0)
    with pytest.raises(RuntimeError), clock.step():
        raise RuntimeError
    assert clock.seconds == []


def test_on_cuda_the_device_is_waited_for_at_both_ends(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    with StepClock("cuda:1").step():
        assert waited == ["cuda:1"]
    assert waited == ["cuda:1", "cuda:1"]
