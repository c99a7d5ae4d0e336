"""The counters of memory beside arithmetic, and a cost measured twice in fresh processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from paretune.measuring import devices
from paretune.measuring.memory import PeakMeter, choose_counter, warm_libraries
from paretune.preparation import ProcessCache
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.training import TrainerOptions
from paretune.training.trainer import train_run

pytestmark = pytest.mark.gpu
MIB = 1 << 20


def test_a_peak_is_what_was_allocated(device: str) -> None:
    """48 MiB that live at the same time, 16 of which outlive the phase."""
    warm_libraries(device)
    meter = PeakMeter(device)
    meter.baseline()
    with meter.phase("train"):
        first = torch.zeros(16 * MIB, dtype=torch.uint8, device=device)
        second = torch.zeros(32 * MIB, dtype=torch.uint8, device=device)
        assert int(first.max()) + int(second.max()) == 0
        del second
    measured = meter.result()["phases"]["train"]
    if device == "cpu":  # pages of the process, and what the interpreter takes beside them
        assert 40 * MIB < measured["peak_bytes"] < 64 * MIB
        return
    assert measured["peak_bytes"] == 48 * MIB
    assert measured["allocated_peak_bytes"] <= measured["reserved_peak_bytes"]
    if not devices.why_nvml_unavailable() and "process_bytes" in measured:
        assert measured["process_bytes"] >= measured["reserved_peak_bytes"]


MEASURE = """
import json, sys
from pathlib import Path
from paretune.execution.cost_probe import measure_cost
from paretune.study import Run
from paretune.store import Claim
run = Run.model_validate_json(sys.stdin.read())
outcome = measure_cost(Claim(run, Path("unused")), sys.argv[1], limit_seconds=1.0)
print(json.dumps(outcome.measured))
"""


def cost(device: str, method: str, tmp_path: Path, model: Path) -> dict[str, Any]:
    run = tiny_run(tiny_task(tmp_path / "data"), model, method, stage="cost")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, device],
        input=run.model_dump_json(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


@pytest.mark.parametrize("method", ["lora", "full"])
def test_two_fresh_processes_measure_the_same(
    method: str, device: str, tmp_path: Path, tiny_model: Any
) -> None:
    """On a GPU to one part in a hundred; of a tiny model on a CPU the process is nearly all."""
    first, second = (cost(device, method, tmp_path, tiny_model("bert")) for _ in range(2))
    peaks = [m["phases"]["train"].get("peak_bytes", 0) for m in (first, second)]
    if device == "cpu":
        assert all(peak < 256 * MIB for peak in peaks)
    else:
        assert peaks[0] == pytest.approx(peaks[1], rel=0.01)
        parts = first["components"]
        kept = parts["weights_bytes"] + parts["optimizer_bytes"]
        assert kept <= peaks[0] + first["phases"]["load"]["peak_bytes"]
        assert set(first["phases"]) == {"load", "train", "evaluation"}


def test_a_worker_keeps_nothing_of_its_runs(device: str, tmp_path: Path, tiny_model: Any) -> None:
    task, counter = tiny_task(tmp_path / "data"), choose_counter(device)
    caches, options, byte_counts = ProcessCache(), TrainerOptions(device), []
    for seed in range(6):
        run = tiny_run(task, tiny_model("bert"), seed=seed)
        train_run(run, checkpoint=tmp_path / "x", caches=caches, options=options)
        byte_counts.append(counter.read_bytes())
    assert device == "cpu" or byte_counts[1] == byte_counts[-1]
