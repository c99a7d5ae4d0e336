"""Computing activations again: the same bits, fewer bytes, with every method."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as from_bytes
from support.chosen import chosen

from paretune import methods, objectives
from paretune.preparation import ProcessCache
from paretune.testing.tiny_models import DECODERS
from paretune.testing.tiny_tasks import silent, tiny_run, tiny_task
from paretune.training.trainer import train_run

METHODS = tuple(
    n
    for n, m in methods.available().items()
    if isinstance(m, methods.Method)
    and not methods.refusal(m, objectives.get("classification"), tabular=False)
)
BACKENDS = ("fast", "plain")


@pytest.mark.parametrize(
    ("family", "method", "backend"),
    [
        *chosen([("bert", name, "fast") for name in METHODS], len(METHODS)),
        *chosen([(f, m, b) for b, f, m in product(BACKENDS, DECODERS, ("lora", "prefix"))], 40),
    ],
)
def test_a_run_gives_the_same_bits(
    tiny_model: Any, tmp_path: Path, family: str, method: str, backend: str
) -> None:
    """Dropout is on: the second forward pass draws the same masks."""
    task, bench = tiny_task(tmp_path / "data"), ProcessCache()
    outcomes = []
    for enabled in (False, True):
        training = {"activation_checkpointing": enabled, "backend": backend, "dropout": 0.1}
        run = tiny_run(task, tiny_model(family), method, training=training)
        outcome = train_run(run, checkpoint=tmp_path / "x", report=silent, caches=bench)
        outcomes.append((outcome.result["curve"], from_bytes(outcome.blobs["weights"])))
    assert outcomes[0][0] == outcomes[1][0]
    for name, tensor in outcomes[0][1].items():
        assert torch.equal(tensor, outcomes[1][1][name]), name
