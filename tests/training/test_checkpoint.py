"""Checkpoints: how often they are written, what is copied for them, and on which device it was."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from support.batches import begin_run, make_batch
from torch import Tensor, nn

from paretune.errors import StoreError
from paretune.files import CHECKSUM_BYTES, write_checksum
from paretune.objectives.encoding import Encoded
from paretune.store import Claim
from paretune.testing.tiny_tasks import silent, tiny_run, tiny_task
from paretune.training import TrainerOptions, checkpoint
from paretune.training.checkpoint import DAMAGED_NOTE, MAX_SAVING_SHARE, CheckpointFile, RunProgress
from paretune.training.run_state import RunState
from paretune.training.trainer import train_run


class StoppedError(Exception):
    """Stands for a worker that is killed."""


def stop(progress: dict[str, Any]) -> None:
    if progress["step"] == 3:
        raise StoppedError


def make_state(tmp_path: Path, seconds: float) -> RunState:
    run = tiny_run(tiny_task(tmp_path), tmp_path)
    data = Encoded([[[1]]] * 80, None, [1] * 80, [0] * 80, [False] * 80)
    prepared: Any = SimpleNamespace(
        trained={"w": nn.Parameter(torch.ones(2))},
        injection=SimpleNamespace(learning_rate_factors={}),
    )
    claim = Claim(run, tmp_path / "kept", silent)
    return begin_run(claim, prepared, make_batch(data, seed=run.seed), dict, seconds)


@pytest.mark.parametrize(("write_seconds", "between"), [(0.1, 60), (30.0, 30 / MAX_SAVING_SHARE)])
def test_writing_checkpoints_takes_a_small_share_of_the_time(
    write_seconds: float, between: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step takes a second; after the first checkpoint it is known how long one takes."""
    now, written = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def save(_: Any, path: Path, **__: Any) -> None:
        written.append(now[0])
        now[0] += write_seconds
        path.write_bytes(bytes(CHECKSUM_BYTES))

    monkeypatch.setattr(checkpoint, "save_file", save)
    state = make_state(tmp_path, 60.0)
    state.progress.step = 1
    while len(written) < 3:
        now[0] += 1.0
        state.save_if_due()
    assert written[0] == 61
    pause = written[2] - written[1] - write_seconds
    assert between < pause <= between + 1


def test_tensors_that_own_their_memory_are_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = torch.arange(12.0).view(3, 4)
    parameter, tied = nn.Parameter(torch.ones(5)), whole[1]
    optimizer = torch.optim.AdamW([parameter, nn.Parameter(torch.ones(1))])
    parameter.grad = torch.ones(5)
    optimizer.step()
    copied: list[Any] = []
    clone = Tensor.clone
    monkeypatch.setattr(Tensor, "clone", lambda self: copied.append(self.shape) or clone(self))
    best = {"w": torch.full((5,), 7.0), "slice": tied, "again": parameter.detach(), "all": whole}
    CheckpointFile(tmp_path / "kept").save(RunProgress(step=1), {"w": parameter}, best, optimizer)
    assert len(copied) == 2  # the slice of a larger tensor, and the one that is there already
    tensors = load_file(tmp_path / "kept")
    assert tensors["best/slice"].tolist() == [4.0, 5.0, 6.0, 7.0]
    assert (
        tensors["best/again"].equal(tensors["trained/w"])
        and tensors["best/w"].tolist() == [7.0] * 5
    )


def test_a_run_that_goes_on_elsewhere_says_so(tmp_path: Path, tiny_model: Any) -> None:
    run = tiny_run(tiny_task(tmp_path), tiny_model("bert"), "lora", training={"max_steps": 6})
    path = tmp_path / "kept.safetensors"
    with pytest.raises(StoppedError):
        train_run(run, checkpoint=path, report=stop, options=TrainerOptions(checkpoint_seconds=0))
    content = path.read_bytes()
    here = train_run(run, checkpoint=path, report=silent)
    assert not any("trained on" in note for note in here.result["notes"])

    path.write_bytes(content)
    with safe_open(path, framework="pt") as handle:
        header = handle.metadata()
    progress = json.loads(header["progress"])
    assert progress["devices"] == ["cpu"]
    progress["devices"] = ["cuda NVIDIA L4"]
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    tensors["~checksum"].zero_()
    save_file(tensors, path, metadata={**header, "progress": json.dumps(progress)})
    write_checksum(path)
    elsewhere = train_run(run, checkpoint=path, report=silent)
    assert (
        "trained on cuda NVIDIA L4, then on cpu: not the bits of one of them alone"
        in elsewhere.result["notes"]
    )


def test_a_checkpoint_with_an_axis_of_runs_is_gone_on_from(tmp_path: Path, tiny_model: Any) -> None:
    """Version 0.2 wrote the tensors of a method with a leading axis of length 1."""
    run = tiny_run(
        tiny_task(tmp_path), tiny_model("bert"), "lora", training={"max_steps": 6, "eval_every": 2}
    )
    path = tmp_path / "kept"
    with pytest.raises(StoppedError):
        train_run(run, checkpoint=path, report=stop, options=TrainerOptions(checkpoint_seconds=0))
    with safe_open(path, framework="pt") as handle:
        header = handle.metadata()
    tensors = load_file(path)
    kinds = set()
    for name in tensors:
        if ".lora." in name and not name.startswith("step/"):
            kinds.add(name.partition("/")[0])
            tensors[name] = tensors[name][None]
    assert kinds == {"trained", "exp_avg", "exp_avg_sq", "best"}
    tensors["~checksum"].zero_()
    save_file(tensors, path, metadata=header)
    write_checksum(path)
    steps: list[int] = []
    again = train_run(run, checkpoint=path, report=lambda p: steps.append(p["step"]))
    assert steps == [3, 4, 5, 6]  # the last checkpoint is of step 2
    whole = train_run(run, checkpoint=tmp_path / "other", report=silent)
    assert again.result == whole.result
    assert again.blobs["weights"] == whole.blobs["weights"]


@pytest.mark.parametrize("where", ["data", "header", "cut"])
def test_a_run_with_a_damaged_checkpoint_starts_anew_and_says_so(
    tmp_path: Path, tiny_model: Any, where: str
) -> None:
    run = tiny_run(tiny_task(tmp_path), tiny_model("bert"), "lora", training={"max_steps": 6})
    path = tmp_path / "kept"
    with pytest.raises(StoppedError):
        train_run(run, checkpoint=path, report=stop, options=TrainerOptions(checkpoint_seconds=0))
    content = bytearray(path.read_bytes())
    if where == "cut":
        del content[len(content) // 2 :]
    else:
        content[len(content) // 2 if where == "data" else 30] ^= 1
    path.write_bytes(content)
    steps: list[int] = []
    again = train_run(run, checkpoint=path, report=lambda p: steps.append(p["step"]))
    assert steps == [1, 2, 3, 4, 5, 6]
    whole = train_run(run, checkpoint=tmp_path / "other", report=silent)
    assert again.result.pop("notes") == [DAMAGED_NOTE]
    assert whole.result.pop("notes") == [] and again.result == whole.result


def test_a_full_disk_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = make_state(tmp_path, 0.0)
    state.progress.step = 1
    state.save()
    content = (tmp_path / "kept").read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError("Error while serializing: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(StoreError, match=r"kept: a checkpoint .*No space left.*same command"):
        state.save()
    assert (tmp_path / "kept").read_bytes() == content
    assert [p.name for p in tmp_path.glob(".*")] == []
