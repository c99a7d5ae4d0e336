"""kill -9 at every step of every write: the old content or the new, and nothing stays behind."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from paretune.files import create_folder, write_atomically
from paretune.store.blobs import write_blob
from paretune.training.checkpoint import CheckpointFile, RunProgress, read_progress

STEPS = ("fsync", "open", "replace", "rename", "rmdir", "mkdir", "unlink")
"""What a write consists of, as the functions of ``os`` that the package calls."""


def killed_at(moment: int, action: Callable[[], object]) -> bool:
    """Do it in a copy of this process that is killed at that step; whether it came so far."""
    pid = os.fork()
    if pid == 0:
        counter = itertools.count()
        for name in STEPS:
            setattr(os, name, fused(getattr(os, name), counter, moment))
        action()
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    assert status in (0, signal.SIGKILL)
    return status != 0


def fused(function: Callable[..., Any], counter: Any, moment: int) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        if next(counter) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    return call


def save_checkpoint(folder: Path, version: int) -> None:
    parameter = nn.Parameter(torch.full((100,), float(version)))
    optimizer = torch.optim.AdamW([parameter])
    progress = RunProgress(step=version, micro_batch=1)
    CheckpointFile(folder / "run.safetensors").save(progress, {"w": parameter}, {}, optimizer)


def read_checkpoint(folder: Path) -> int:
    progress = read_progress(folder / "run.safetensors")
    assert progress is not None  # whole, whenever the kill came
    return progress.step


def write_file(folder: Path, version: int) -> None:
    write_atomically(folder / "scores.csv", str(version) * 10_000)


def read_file(folder: Path) -> int:
    content = (folder / "scores.csv").read_text()
    assert len(content) == 10_000
    return int(content[0])


def write_export(folder: Path, version: int) -> None:
    if (folder / f"export{version}").exists():
        return  # an export replaces nothing
    with create_folder(folder / f"export{version}") as part:
        (part / "weights").write_bytes(bytes(10_000))
        (part / "README.md").write_text("a card")


def read_exports(folder: Path) -> int:
    exports = list(folder.glob("export*"))
    assert all(len(list(export.iterdir())) == 2 for export in exports)
    return len(exports)


def keep_blob(folder: Path, version: int) -> None:
    write_blob(folder, b"%d" % version * 10_000)


def read_blobs(folder: Path) -> int:
    blobs = [path for path in folder.glob("??/*") if path.parent.name != "part"]
    assert all(path.stat().st_size == 10_000 for path in blobs)
    return len(blobs)


WRITES = {
    "checkpoint": (save_checkpoint, read_checkpoint),
    "file": (write_file, read_file),
    "export": (write_export, read_exports),
    "blob": (keep_blob, read_blobs),
}


@pytest.mark.parametrize("kind", WRITES)
def test_a_write_killed_at_any_step_leaves_the_old_or_the_new(tmp_path: Path, kind: str) -> None:
    write, read = WRITES[kind]
    write(tmp_path / "begun", 1)
    seen: list[int] = []
    for moment in range(100):
        folder = Path(shutil.copytree(tmp_path / "begun", tmp_path / str(moment)))
        killed = killed_at(moment, lambda folder=folder: write(folder, 2))
        seen.append(read(folder))
        write(folder, 2)
        assert read(folder) == 2
        assert list(folder.rglob("*.part")) == []
        if not killed:
            break
    assert not killed and seen[-1] == 2  # the last one came to its end
    assert seen == sorted(seen) and set(seen) == {1, 2} and len(seen) > 3
