"""Weights between start and end: the best of them by the selection part, and nothing lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as from_bytes
from torch import nn

from paretune.errors import StudyError
from paretune.study import Study, Training
from paretune.testing.tiny_tasks import silent, tiny_run, tiny_task
from paretune.testing.translator_folders import tiny_marian, tiny_pairs
from paretune.training.runs.job import TrainerOptions
from paretune.training.runs.weight_interpolation import (
    Interpolation,
    choose_share,
    copy_start,
)
from paretune.training.trainer import train_run

SHARES = (0.25, 0.5, 0.75)


@pytest.mark.parametrize(("optimum", "share"), [(1.1, 0.5), (1.4, 0.75), (0.0, 0.25), (3.0, 1.0)])
def test_the_share_nearest_to_the_optimum_is_taken(optimum: float, share: float) -> None:
    """One weight goes from 0 to 2, and is the better the nearer it is to the optimum."""
    trained = {"w": nn.Parameter(torch.zeros(1)), "head": nn.Parameter(torch.zeros(1))}
    start = copy_start(trained, ["head"], SHARES)
    assert set(start) == {"w"}
    with torch.no_grad():
        trained["w"].fill_(2.0)
        trained["head"].fill_(5.0)

    def select() -> dict[str, float]:
        return {"primary": -abs(float(trained["w"].detach()) - optimum), "loss": 1.0}

    end = {name: p.detach().clone() for name, p in trained.items()}
    between = choose_share(trained, start, end, SHARES, select(), select)
    assert float(end["w"]) == 2.0
    assert between.share == share and float(trained["w"]) == pytest.approx(2 * share)
    assert float(trained["head"]) == 5.0
    assert [t["share"] for t in between.tried] == list(SHARES)


def test_without_shares_nothing_is_copied() -> None:
    assert copy_start({"w": nn.Parameter(torch.zeros(1))}, [], ()) == {}
    assert Interpolation() == Interpolation(1.0, ())


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_run_leaves_the_mix_that_it_scored(method: str, tmp_path: Path, tiny_model: Any) -> None:
    task = tiny_task(tmp_path)
    settings: dict[str, Any] = {"max_steps": 8, "eval_every": 4, "dropout": 0.0}

    def ended(**changes: Any) -> Any:
        run = tiny_run(
            task, tiny_model("bert"), method, learning_rate=5e-3, training=settings | changes
        )
        return train_run(run, checkpoint=tmp_path / "x", report=silent)

    whole, mixed = ended(), ended(interpolate=list(SHARES))
    interpolated = mixed.result["interpolated"]
    assert [t["share"] for t in interpolated["tried"]] == list(SHARES)
    assert "interpolated" not in whole.result
    assert whole.result["curve"] == mixed.result["curve"]
    end, left = from_bytes(whole.blobs["weights"]), from_bytes(mixed.blobs["weights"])
    scores = mixed.result["scores"]["selection"]
    if interpolated["share"] == 1.0:
        assert all(torch.equal(end[name], left[name]) for name in end)
    else:
        (best,) = [t for t in interpolated["tried"] if t["share"] == interpolated["share"]]
        assert scores["loss"] == pytest.approx(best["loss"], abs=1e-6)
        moved = [n for n in end if not torch.equal(end[n], left[n])]
        assert moved and not [n for n in moved if n.startswith("classifier")]
        if method == "lora":  # B starts at 0
            for name in (n for n in end if n.endswith(".B")):
                torch.testing.assert_close(left[name], end[name] * interpolated["share"])
    best = max(t["primary"] for t in interpolated["tried"])
    assert scores["primary"] >= max(best, whole.result["scores"]["selection"]["primary"]) - 1e-9


def test_a_translation_is_mixed_by_its_loss_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    settings = {"max_steps": 6, "eval_every": 3, "interpolate": [0.5]}
    task, model = tiny_pairs(tmp_path / "data"), tiny_marian(tmp_path / "marian")
    run = tiny_run(task, model, learning_rate=0.5, training=settings)
    whole = train_run(run, checkpoint=tmp_path / "a", report=silent)
    interpolated = whole.result["interpolated"]
    curve = {point["step"]: point["selection"] for point in whole.result["curve"]}
    losses = {1.0: curve[whole.result["best_step"]]["loss"]}
    losses |= {t["share"]: t["loss"] for t in interpolated["tried"]}
    assert whole.result["scores"]["selection"]["loss"] == pytest.approx(
        losses[interpolated["share"]]
    )
    assert losses[interpolated["share"]] == min(losses.values())

    def kill(progress: dict[str, Any]) -> None:
        if progress.get("step") == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(
            run,
            checkpoint=tmp_path / "b",
            report=kill,
            options=TrainerOptions(checkpoint_seconds=0),
        )
    again = train_run(run, checkpoint=tmp_path / "b", report=silent)
    assert (again.result, again.blobs) == (whole.result, whole.blobs)


def test_shares_lie_between_start_and_end() -> None:
    assert Training().interpolate == () and Training(interpolate=(0.5,)).interpolate == (0.5,)
    raw = {"study": "s", "tasks": ["cb"], "models": ["m"], "methods": ["full"]}
    for bad in (0.0, 1.0, -0.5):
        with pytest.raises(StudyError, match=r"training\.interpolate, entry 1"):
            Study.parse({**raw, "training": {"interpolate": [bad]}})
    plain = Study.parse(raw)
    # A study that does not ask for it is the same study as before.
    assert "interpolate" not in plain.canonical_form()["training"]
