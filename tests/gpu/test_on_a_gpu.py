"""On a real GPU: runs end, twice with the same bits, and near what a CPU makes of them.

Nobody has run these yet: no GPU was at hand where they were written. What can be known without one
is in tests/fake_cuda.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load as from_bytes

from paretune.measuring.devices import query_gpu, resolve_device
from paretune.testing.tiny_tasks import silent, tiny_run, tiny_task
from paretune.training.runs.job import TrainerOptions
from paretune.training.trainer import train_run

pytestmark = pytest.mark.gpu
DEVICE = "cuda"
METHODS = ("lora", "full", "dora", "ia3", "bitfit", "prefix", "prompt", "houlsby")


def trained(tmp_path: Path, model: Path, method: str, device: str, precision: str) -> Any:
    training = {"dropout": 0.0, "precision": precision}
    run = tiny_run(tiny_task(tmp_path / "data"), model, method, training=training)
    outcome = train_run(
        run, checkpoint=tmp_path / "none", report=silent, options=TrainerOptions(device)
    )
    assert outcome.result["outcome"] in ("ok", "collapsed")
    return outcome


def test_the_device_is_known_without_a_context_here() -> None:
    assert resolve_device("auto") == DEVICE
    assert query_gpu(DEVICE).total_bytes >= query_gpu(DEVICE).free_bytes > 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["bert", "modernbert", "deberta-v2"])
def test_a_run_is_near_that_of_a_cpu(
    family: str, method: str, tmp_path: Path, tiny_model: Any
) -> None:
    if (family, method) == ("modernbert", "bitfit"):
        pytest.skip("ModernBERT has no biases")
    made = [trained(tmp_path, tiny_model(family), method, d, "fp32") for d in ("cpu", DEVICE)]
    losses = [[row["loss"] for row in outcome.result["curve"]] for outcome in made]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", METHODS)
def test_twice_the_same_bits(method: str, precision: str, tmp_path: Path, tiny_model: Any) -> None:
    model = tiny_model("bert")
    made = [trained(tmp_path, model, method, DEVICE, precision) for _ in range(2)]
    first, second = (from_bytes(outcome.blobs["weights"]) for outcome in made)
    assert all(first[name].equal(tensor) for name, tensor in second.items())
