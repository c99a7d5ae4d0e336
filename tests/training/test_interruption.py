"""Told to stop at any moment, a run keeps its last whole step and goes on from there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from paretune.study import Run
from paretune.testing.tiny_tasks import silent, tiny_run, tiny_task
from paretune.training import loop, trainer
from paretune.training.evaluation import evaluator
from paretune.training.interruption import defer_interrupts, interrupt
from paretune.training.run_state import RunState
from paretune.training.trainer import train_run

PLACES: dict[str, tuple[Any, str, int]] = {
    "in a pass": (loop, "accumulate_gradients", 5),
    "in the optimiser": (torch.optim.AdamW, "step", 5),
    "in an evaluation": (evaluator, "evaluate", 2),
    "in the last evaluation": (evaluator, "evaluate", 3),
    "in its answers": (RunState, "predict", 1),
}
"""A function, and which of its calls is interrupted. Evaluations are after 3, 6 and 8 steps."""


def interrupting(
    monkeypatch: pytest.MonkeyPatch, place: tuple[Any, str, int], *, after: bool = False
) -> None:
    """From now on, that call is interrupted once, before or after it has done its work."""
    where, name, nth = place
    function, calls = getattr(where, name), [0]

    def once(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] != nth:
            return function(*arguments, **named)
        returned = function(*arguments, **named) if after else None
        interrupt()
        return returned if after else function(*arguments, **named)

    monkeypatch.setattr(where, name, once)


def eight_steps(tmp_path: Path, tiny_model: Any, method: str = "lora", **more: Any) -> Run:
    training = {"max_steps": 8, "eval_every": 3, "dropout": 0.1, **more.pop("training", {})}
    task = tiny_task(tmp_path / "data")
    return tiny_run(task, tiny_model("bert"), method, training=training, **more)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("method", ["full", "prompt"])
def test_no_step_is_lost_and_the_bits_are_the_same(
    method: str,
    place: str,
    after: bool,
    tmp_path: Path,
    tiny_model: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = eight_steps(tmp_path, tiny_model, method, training={"patience": None})
    whole = train_run(run, checkpoint=tmp_path / "whole", report=silent)
    seen: list[int] = []

    def report(progress: dict[str, Any]) -> None:
        seen.append(progress["step"])

    with monkeypatch.context() as here:
        interrupting(here, PLACES[place], after=after)
        with pytest.raises(KeyboardInterrupt):
            train_run(run, checkpoint=tmp_path / "kept", report=report)
    before = len(seen)
    ended = train_run(run, checkpoint=tmp_path / "kept", report=report)
    assert seen == [1, 2, 3, 4, 5, 6, 7, 8]
    assert before >= 4  # by then an attempt had done something
    assert (ended.result, ended.blobs) == (whole.result, whole.blobs)


def test_a_run_that_stopped_early_does_not_go_on(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in its answers, it is as over as it was."""
    training = {"eval_every": 1, "patience": 2, "max_steps": 40}
    run = eight_steps(tmp_path, tiny_model, learning_rate=1e-30, training=training)
    whole = train_run(run, checkpoint=tmp_path / "whole", report=silent)
    assert whole.result["steps"] < 40
    with monkeypatch.context() as here:
        interrupting(here, PLACES["in its answers"])
        with pytest.raises(KeyboardInterrupt):
            train_run(run, checkpoint=tmp_path / "kept", report=silent)
    steps: list[dict[str, Any]] = []
    ended = train_run(run, checkpoint=tmp_path / "kept", report=steps.append)
    assert steps == []
    assert ended.result == whole.result


def test_seconds_of_all_attempts_count(tmp_path: Path, tiny_model: Any) -> None:
    """And every report says where the present attempt began, for the time that is left."""
    run, reports = eight_steps(tmp_path, tiny_model), list[dict[str, Any]]()
    now = [0.0]

    def report(progress: dict[str, Any]) -> None:
        now[0] += 10.0
        reports.append(progress)
        if progress["step"] == 5:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as here:
        here.setattr(trainer.time, "monotonic", lambda: now[0])
        with pytest.raises(KeyboardInterrupt):
            train_run(run, checkpoint=tmp_path / "kept", report=report)
        now[0] = 5000.0
        ended = train_run(run, checkpoint=tmp_path / "kept", report=report)
    assert ended.measured["wall_seconds"]["train"] == pytest.approx(80.0)
    assert [p["resumed_at"] for p in reports] == [0] * 5 + [5] * 3


def test_what_must_be_whole_is_interrupted_at_its_end() -> None:
    done: list[str] = []

    def both() -> None:
        with defer_interrupts():
            interrupt()
            done.append("inner")
        done.append("outer")

    with pytest.raises(KeyboardInterrupt), defer_interrupts():
        both()
    assert done == ["inner", "outer"]
    with defer_interrupts():  # and it is raised once
        done.append("again")
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_a_failure_inside_is_told_as_itself() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    calls: list[Callable[[], None]] = [fail]
    with pytest.raises(ZeroDivisionError), defer_interrupts():
        interrupt()
        calls[0]()
    with defer_interrupts():
        assert calls  # nothing is left over
