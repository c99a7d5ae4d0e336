"""Checkpoints: a killed run continues to the same bits.

One safetensors file: trained parameters, the best ones so far, AdamW's moments, and a JSON header
with the step and the curve. Random state is not saved: every draw is seeded by run, purpose and
step. A checksum covers the whole file; a run whose checkpoint is damaged starts anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from paretune.errors import StoreError
from paretune.files import (
    CHECKSUM_BYTES,
    describe_os_error,
    has_valid_checksum,
    replace_file,
    write_checksum,
)
from paretune.models.sources.convert import own_memory

FORMAT = 2
DAMAGED_NOTE = "its checkpoint was damaged, so it was trained anew from its first step"
_CHECKSUM = "~checksum"
"""A tensor of bytes, which safetensors writes last: behind all wider types, and by its name."""
MAX_SAVING_SHARE = 0.05
"""Share of the training time that writing checkpoints may take."""


@dataclass
class RunProgress:
    """The state of a run in training, apart from its tensors.

    ``without_gain``: evaluations since the best one. ``seconds``: of training, in all attempts.
    ``devices``: on which, in turn. ``first_gradients``: of a proposed trial, the squared norm of
    the first step's gradient of each trained tensor, divided by its size.
    """

    step: int = 0
    micro_batch: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    best_step: int = -1
    best_scores: dict[str, float] = field(default_factory=dict)
    without_gain: int = 0
    seconds: float = 0.0
    devices: list[str] = field(default_factory=list)
    first_gradients: dict[str, float] = field(default_factory=dict)


class CheckpointFile:
    """The checkpoint of one run on disk."""

    def __init__(self, path: Path, seconds: float = 60.0) -> None:
        self.path, self.seconds = path, seconds
        self._saved_at, self._saving_seconds = time.monotonic(), 0.0

    @property
    def is_due(self) -> bool:
        """Whether the last checkpoint is old enough.

        A large model has gigabytes: its checkpoint is old enough when writing it took a small share
        of the time since.
        """
        pause = self.seconds and max(self.seconds, self._saving_seconds / MAX_SAVING_SHARE)
        return time.monotonic() - self._saved_at > pause

    def save(
        self,
        progress: RunProgress,
        trained: Mapping[str, Tensor],
        best: Mapping[str, Tensor],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Replace the file: a reader sees the old state or the new, never half of one.

        Raises:
            StoreError: the disk is full or fails; the file is the one before.
        """
        started = time.monotonic()
        tensors: dict[str, Tensor] = {}
        for name, parameter in trained.items():
            tensors[f"trained/{name}"] = parameter.detach()
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{key}/{name}"] = value
        tensors |= {f"best/{name}": value for name, value in best.items()}
        tensors[_CHECKSUM] = torch.zeros(CHECKSUM_BYTES, dtype=torch.uint8)
        header = {"format": str(FORMAT), "progress": json.dumps(asdict(progress))}
        try:
            with replace_file(self.path) as part:
                save_file(own_memory(tensors), part, metadata=header)
                write_checksum(part)
        except (OSError, SafetensorError) as error:
            if (reason := describe_os_error(error)) is None:
                raise
            # An error of the disk ends no run.
            raise StoreError(
                f"a checkpoint cannot be written ({reason}); the run and its last checkpoint stay.",
                where=str(self.path),
                remedy="Check the free space and the permissions; the same command continues.",
            ) from error
        self._saved_at = time.monotonic()
        self._saving_seconds = self._saved_at - started

    def load(
        self,
        trained: Mapping[str, Tensor],
        optimizer: torch.optim.Optimizer,
        micro_batch: int,
    ) -> tuple[RunProgress, dict[str, Tensor]] | None:
        """Restore a run in place, if there is a whole checkpoint with this micro-batch.

        Another micro-batch sums in another order: such a run starts anew, and nothing is changed. A
        run whose whole table of words was trained, by an older version, starts anew as well.

        Returns:
            The progress, and the best weights so far.
        """
        progress = read_progress(self.path)
        if progress is None or progress.micro_batch != micro_batch:
            return None
        with safe_open(self.path, framework="pt") as handle:
            tensors = {}
            for name in handle.keys():  # noqa: SIM118
                tensor = handle.get_tensor(name)
                parameter = trained.get(name.partition("/")[2])
                tensors[name] = tensor if parameter is None else drop_run_axis(tensor, parameter)
        shapes = {name[8:]: t.shape for name, t in tensors.items() if name.startswith("trained/")}
        if shapes != {name: tensor.shape for name, tensor in trained.items()}:
            return None
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(tensors[f"trained/{name}"])
                state = {
                    key: tensors[f"{key}/{name}"]
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"{key}/{name}" in tensors
                }
                if state:
                    # A fused AdamW wants its step counter on the device of its parameter, too.
                    device = parameter.device
                    optimizer.state[parameter] = {k: v.to(device) for k, v in state.items()}
        best = {name[5:]: value for name, value in tensors.items() if name.startswith("best/")}
        return progress, best


def drop_run_axis(stored: Tensor, parameter: Tensor) -> Tensor:
    """A stored tensor in the shape of its parameter, if only axes of length 1 stand before that.

    Up to version 0.2 the tensors of a method had an axis of runs, of length 1.
    """
    extra = stored.ndim - parameter.ndim
    if extra > 0 and stored.shape == (*[1] * extra, *parameter.shape):
        return stored.reshape(parameter.shape)
    return stored


def read_progress(path: Path) -> RunProgress | None:
    """The progress in a checkpoint; None if there is none, it is damaged, or has another format."""
    if not has_valid_checksum(path):
        return None
    with safe_open(path, framework="pt") as handle:
        header = handle.metadata() or {}
    if header.get("format") != str(FORMAT):
        return None
    return RunProgress(**json.loads(header["progress"]))
