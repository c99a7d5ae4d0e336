"""Translations that train together: each run as alone, its losses, its weights, its texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.joint_runs import alone, equal, together

from paretune.planning.predicted_cost import CostPredictor
from paretune.study import Generation, Run
from paretune.testing.tiny_tasks import tiny_run
from paretune.testing.translator_folders import tiny_pairs, translator_folder
from paretune.training.caches import ProcessCache
from paretune.training.forward.packed import PackedSeq2SeqForward
from paretune.training.forward.select import MAX_STACK_TOKENS


def runs_of(tmp_path: Path, family: str = "marian", **changes: Any) -> list[Run]:
    """Two seeds and two rates, with dropout."""
    task, model = tiny_pairs(tmp_path / "data"), translator_folder(family, tmp_path / family)
    training = {"max_steps": 6, "eval_every": 3, "dropout": 0.1, **changes.pop("training", {})}
    generation = Generation(max_new_tokens=8, num_beams=2)
    return [
        tiny_run(
            task,
            model,
            training=training,
            generation=generation,
            seed=seed,
            learning_rate=rate,
            **changes,
        )
        for seed, rate in ((1, 1e-3), (2, 1e-3), (1, 1e-2))
    ]


@pytest.fixture
def shared_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs had examples in each pass of a fleet."""
    counts: list[int] = []

    call = PackedSeq2SeqForward.__call__

    def counted_call(self: PackedSeq2SeqForward, micro_batches: Any) -> Any:
        if self.splitter.alone is False:
            counts.append(sum(bool(one.indices) for one in micro_batches))
        return call(self, micro_batches)

    monkeypatch.setattr(PackedSeq2SeqForward, "__call__", counted_call)
    return counts


def same(joint: Any, other: Any) -> None:
    """Answers, losses and weights; and the translations are the same texts."""
    equal(joint, other)
    ours, theirs = (json.loads(one.blobs["predictions"]) for one in (joint, other))
    assert [ours[part]["prediction"] for part in ours] == [
        theirs[part]["prediction"] for part in ours
    ]
    for part in theirs:
        mine, expected = (one.result["scores"][part]["loss"] for one in (joint, other))
        assert mine == pytest.approx(expected, abs=1e-4)


@pytest.mark.wide
@pytest.mark.parametrize(
    ("family", "method"),
    [
        ("marian", "lora"),
        ("marian", "prompt"),
        ("mbart", "ia3"),
        *(
            pytest.param(family, method, marks=pytest.mark.slow)
            for family, names in (
                ("marian", ("loha", "lokr", "prefix", "houlsby", "bitfit", "parallel")),
                ("mbart", ("lora", "prompt", "prefix")),
            )
            for method in names
        ),
    ],
)
@pytest.mark.parametrize("rows", [200, 4000], ids=["some-together", "all-together"])
def test_each_run_as_alone(
    family: str,
    method: str,
    rows: int,
    tmp_path: Path,
    shared_passes: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(MAX_STACK_TOKENS, "cpu", rows)
    runs, bench = runs_of(tmp_path, family, method=method), ProcessCache()
    assert CostPredictor(bench).predict_fleet_size(runs[0], 3, 1 << 30)[0] == 3
    joint = together(runs, tmp_path, bench=bench)
    assert max(shared_passes) == 3 and (min(shared_passes) < 3) == (rows == 200)
    losses = set()
    for n, run in enumerate(runs):
        left = alone(run, tmp_path / f"alone{n}", bench=bench)
        same(joint[run.seed, run.learning_rate, run.fold], left)
        losses.add(round(left.result["curve"][-1]["loss"], 4))
    assert len(losses) == 3  # they are three different runs


def test_a_run_that_ends_translates_while_others_go_on(
    tmp_path: Path, shared_passes: list[int]
) -> None:
    """It is alone in the model for that; who stays goes on as before, and another takes its place.

    The best weights are not the last ones.
    """
    slow, *others = runs_of(tmp_path, training={"patience": 1, "eval_every": 2, "max_steps": 12})
    runs = [slow, *(run.model_copy(update={"learning_rate": 3.0}) for run in others)]
    runs = [run.model_copy(update={"seed": n + 1}) for n, run in enumerate(runs)]
    joint = together(runs, tmp_path, places=2)
    left = [alone(run, tmp_path / f"alone{n}") for n, run in enumerate(runs)]
    for run, one in zip(runs, left, strict=True):
        same(joint[run.seed, run.learning_rate, run.fold], one)
    assert len({one.result["steps"] for one in left}) > 1
    assert any(one.result["best_step"] < one.result["steps"] for one in left)
    assert {1, 2} <= {*shared_passes}


def test_who_trains_alone(tmp_path: Path) -> None:
    """T5's attention has biases, so its batches are padded; what changes the base has its own."""
    task, bench = tiny_pairs(tmp_path / "data"), ProcessCache()

    def places(family: str, method: str = "lora") -> tuple[int, bool]:
        run = tiny_run(task, translator_folder(family, tmp_path / family), method)
        return CostPredictor(bench).predict_fleet_size(run, 8, 1 << 30)

    together, alone = (8, True), (1, False)  # a step has about 100 tokens
    assert places("marian") == places("mbart") == places("marian", "prompt") == together
    assert places("t5") == places("marian", "full") == places("marian", "unipelt") == alone
