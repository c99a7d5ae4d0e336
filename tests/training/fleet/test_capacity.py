"""How many runs may train together, and which of their passes are one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paretune.data.batch import stack_passes
from paretune.planning.predicted_cost import CostPredictor
from paretune.testing.tiny_tasks import silent, tiny_run, tiny_task
from paretune.testing.translator_folders import tiny_pairs, translator_folder
from paretune.training.caches import ProcessCache
from paretune.training.forward import select
from paretune.training.forward.passes import Compute
from paretune.training.forward.select import MAX_STACK_TOKENS, make_forward, make_shared_forward
from paretune.training.prepare import prepare
from paretune.training.trainer import train_run


def test_who_trains_alone(tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What changes the base, what decides for a whole batch, and what is not known to share."""
    task, bench = tiny_task(tmp_path), ProcessCache()

    def places(family: str, method: str, **changes: Any) -> int:
        run = tiny_run(task, tiny_model(family), method, **changes)
        return CostPredictor(bench).predict_fleet_size(run, 8, 1 << 30)[0]

    assert places("bert", "lora") == places("deberta-v2", "lora") == 8
    monkeypatch.setattr(select, "SHAREABLE", ())  # where it was not tested
    assert (places("bert", "lora"), places("deberta-v2", "lora")) == (8, 1)
    monkeypatch.undo()
    for method in ("full", "dora", "unipelt", "peft:vera"):
        assert places("bert", method) == places("deberta-v2", method) == 1, method
    assert places("bert", "lora", stage="cost") == 1
    assert places("bert", "adapterdrop", options={"robust": True, "reduction_factor": 8}) == 1


@pytest.mark.parametrize("family", ["bert", "deberta-v2"])
def test_seats_are_what_memory_bears_and_where_they_pay(
    family: str, tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = ProcessCache()
    run = tiny_run(tiny_task(tmp_path), tiny_model(family), "lora")
    size = train_run(run, checkpoint=tmp_path / "alone", report=silent).result["trained_parameters"]
    predictor = CostPredictor(bench)
    monkeypatch.setitem(MAX_STACK_TOKENS, "cpu", 10_000)
    assert predictor.predict_fleet_size(run, 8, 3 * 24 * size) == (3, True)
    assert predictor.predict_fleet_size(run, 8, 0) == (1, False)
    monkeypatch.setitem(MAX_STACK_TOKENS, "cpu", 50)  # a step has more than 25 tokens
    assert predictor.predict_fleet_size(run, 8, 1 << 30) == (8, False)
    assert CostPredictor(bench, device="cuda").predict_fleet_size(run, 8, 1 << 30) == (8, False)


def test_translators_that_train_alone(tmp_path: Path) -> None:
    """T5's attention has biases, so its batches are padded; what changes the base has its own."""
    task, bench = tiny_pairs(tmp_path / "data"), ProcessCache()

    def places(family: str, method: str = "lora") -> int:
        run = tiny_run(task, translator_folder(family, tmp_path / family), method)
        return CostPredictor(bench).predict_fleet_size(run, 8, 1 << 30)[0]

    assert places("marian") == places("mbart") == places("marian", "prompt") == 8
    assert places("t5") == places("marian", "full") == places("marian", "unipelt") == 1
    run = tiny_run(task, translator_folder("marian", tmp_path / "marian"))
    # A step has about 100 tokens.
    assert CostPredictor(bench).predict_fleet_size(run, 8, 1 << 30) == (8, True)


@pytest.mark.parametrize("family", ["bert", "marian"])
def test_each_run_draws_for_itself_on_any_device(
    family: str, tmp_path: Path, tiny_model: Any
) -> None:
    """Off a CPU a run alone has torch's own dropout, which knows one seed for all who are there."""
    translates, bench = family == "marian", ProcessCache()
    task = tiny_pairs(tmp_path / "data") if translates else tiny_task(tmp_path)
    model = translator_folder("marian", tmp_path / "m") if translates else tiny_model(family)
    run = tiny_run(task, model, training={"dropout": 0.1})
    for ready, draws_itself in ((make_forward, False), (make_shared_forward, True)):
        bench.drop_model()
        prepared = prepare(run, bench.model(run.model, bench.dataset(task)), "cpu")
        prepared.loaded.model.to("meta")
        assert ready(prepared, Compute()) and prepared.fleet.packing is not None
        packed_rng = prepared.fleet.packing.dropout_rng
        assert (prepared.fleet.dropout_rng is packed_rng) == draws_itself


def test_stacks() -> None:
    """Every pass once, no run twice in a stack, no more tokens than asked, and little padding."""
    draw = np.random.default_rng(0)
    for _ in range(50):
        sides = [
            [(int(rows), int(length)) for rows, length in draw.integers(1, 12, (int(count), 2))]
            for count in draw.integers(0, 5, 6)
        ]
        stacks = stack_passes(sides, 100, 9)
        placed = sorted((run, part) for stack in stacks for run, part in stack.items())
        assert placed == [(r, p) for r, own in enumerate(sides) for p in range(len(own))]
        for stack in stacks:
            passes = [sides[r][p] for r, p in stack.items()]
            longest = max(length for _, length in passes)
            assert len(stack) == 1 or sum(rows for rows, _ in passes) * longest <= 100
            assert all(rows * (longest - length) <= 9 for rows, length in passes)
    packed = [[(60, 1), (30, 1)], [(50, 1)], [(40, 1)]]
    assert stack_passes(packed, 100, 0) == [{0: 0, 2: 0}, {1: 0, 0: 1}]
    unlike = [[(2, 30)], [(2, 12)], [(2, 29)], [(2, 11)]]
    assert stack_passes(unlike, 1000, 4) == [{0: 0, 2: 0}, {1: 0, 3: 0}]
    assert stack_passes(unlike, 200, 9, overhead_tokens=20) == [{0: 0, 2: 0}, {1: 0, 3: 0}]
    assert stack_passes(unlike, 200, 9, overhead_tokens=21) == [{0: 0}, {2: 0}, {1: 0, 3: 0}]
    assert stack_passes(unlike, 1000, 0) == [{0: 0}, {2: 0}, {1: 0}, {3: 0}]
