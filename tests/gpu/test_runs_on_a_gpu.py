"""Whole runs on a GPU: near those of a CPU, the same bits twice, resumed, packed, out of memory.

Nobody has run these on one yet: none was at hand where they were written. What can be known without
is in tests/fake_cuda.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as from_bytes

from paretune.measuring.devices import query_gpu, resolve_device
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.training import TrainerOptions
from paretune.training.trainer import train_run

pytestmark = pytest.mark.gpu


def losses(outcome: Any) -> list[float]:
    assert outcome.result["outcome"] in ("ok", "collapsed")
    return [row["loss"] for row in outcome.result["curve"]]


def same_bits(first: Any, second: Any) -> bool:
    one, other = (from_bytes(outcome.blobs["weights"]) for outcome in (first, second))
    return one.keys() == other.keys() and all(one[n].equal(t) for n, t in other.items())


def test_the_device_is_known_without_a_context_here(device: str) -> None:
    assert resolve_device(device) == device
    if device != "cpu":
        assert query_gpu(device).total_bytes >= query_gpu(device).free_bytes > 0


def test_a_run_is_near_that_of_a_cpu(
    family: str, method: str, device: str, trained: Callable[..., Any]
) -> None:
    if (family, method) == ("modernbert", "bitfit"):
        pytest.skip("ModernBERT has no biases")
    here, there = (losses(trained(family, method, where)) for where in ("cpu", device))
    assert there == pytest.approx(here, rel=1e-3)


def test_bf16_is_near_fp32(method: str, device: str, trained: Callable[..., Any]) -> None:
    wide, half = (losses(trained("bert", method, device, precision=p)) for p in ("fp32", "bf16"))
    assert half == pytest.approx(wide, rel=3e-2)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_twice_the_same_bits(
    family: str, method: str, precision: str, device: str, trained: Callable[..., Any]
) -> None:
    """As a worker computes: with deterministic kernels where there are some."""
    if (family, method) == ("modernbert", "bitfit"):
        pytest.skip("ModernBERT has no biases")
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        outcomes = [
            trained(family, method, device, precision=precision, dropout=0.1) for _ in range(2)
        ]
    finally:
        torch.use_deterministic_algorithms(False)
    assert same_bits(*outcomes)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_packed_is_plain(family: str, device: str, trained: Callable[..., Any]) -> None:
    packed, plain = (losses(trained(family, "lora", device, backend=b)) for b in ("fast", "plain"))
    assert packed == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(
    method: str, device: str, tmp_path: Path, tiny_model: Any
) -> None:
    run = tiny_run(
        tiny_task(tmp_path / "data"), tiny_model("bert"), method, training={"max_steps": 6}
    )

    def stop(progress: dict[str, Any]) -> None:
        if progress.get("step") == 3:
            raise KeyboardInterrupt

    options = TrainerOptions(device, checkpoint_seconds=0)
    whole = train_run(run, checkpoint=tmp_path / "whole", options=options)
    with pytest.raises(KeyboardInterrupt):
        train_run(run, checkpoint=tmp_path / "half", report=stop, options=options)
    assert (tmp_path / "half").is_file()
    resumed = train_run(run, checkpoint=tmp_path / "half", options=options)
    assert same_bits(whole, resumed)


@pytest.fixture
def little_memory(device: str) -> Any:
    """A card of which this process may take very little more than the model."""
    if device == "cpu":
        pytest.skip("a CPU has no such limit")
    torch.zeros(1, device=device)
    torch.cuda.empty_cache()

    def limit(extra_bytes: int) -> None:
        total = torch.cuda.get_device_properties(device).total_memory
        limit_bytes = torch.cuda.memory_reserved(device) + extra_bytes
        torch.cuda.set_per_process_memory_fraction(limit_bytes / total, device)

    yield limit
    torch.cuda.set_per_process_memory_fraction(1.0, device)


@pytest.mark.parametrize(("extra", "outcome"), [(40 << 20, "ok"), (1 << 20, "out_of_memory")])
def test_memory_that_ends_halves_the_micro_batch(
    extra: int, outcome: str, device: str, little_memory: Any, tmp_path: Path, tiny_model: Any
) -> None:
    """With 40 MiB beside what is reserved a batch of 1,024 texts does not fit, a few do."""
    run = tiny_run(
        tiny_task(tmp_path / "data", train=1200),
        tiny_model("bert"),
        training={"batch_size": 1024, "max_steps": 1},
    )
    little_memory(extra)
    ended = train_run(run, checkpoint=tmp_path / "x", options=TrainerOptions(device))
    expected = ("ok", "collapsed") if outcome == "ok" else (outcome,)
    assert ended.result["outcome"] in expected
    assert any("out of memory" in note for note in ended.result["notes"])
