"""Products by oneDNN give what torch's own give, and are taken where they are faster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from paretune.models.changes import ModelChanges
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.training.forward import onednn_products, select
from paretune.training.forward.onednn_products import is_onednn_faster, use_onednn_products
from paretune.training.trainer import train_run

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN"
)


@pytest.mark.parametrize("shape", [(7, 12), (2, 5, 12), (2, 3, 5, 12), (12,), (0, 12)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("trained", [True, False])
def test_a_layer_has_the_same_result_and_gradients(
    shape: tuple[int, ...], bias: bool, trained: bool
) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(12, 9, bias=bias).requires_grad_(trained)
    x = torch.randn(shape, requires_grad=True)
    inputs = [x, *(layer.parameters() if trained else ())]
    weights = torch.randn(*shape[:-1], 9)

    def compute() -> list[torch.Tensor]:
        out = layer(x)
        return [out.detach(), *torch.autograd.grad((out * weights).sum(), inputs)]

    expected = compute()
    with ModelChanges() as changes:
        use_onednn_products(changes, layer)
        assert "forward" in vars(layer)
        for ours, theirs in zip(compute(), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert "forward" not in vars(layer)


def test_layers_of_other_precision_or_with_a_pass_of_their_own_keep_theirs() -> None:
    model = nn.Sequential(nn.Linear(4, 4).bfloat16(), nn.Linear(4, 4), nn.Linear(4, 4))
    changes = ModelChanges()
    changes.set(model[1], "forward", lambda x: x)
    use_onednn_products(changes, model)
    assert "forward" not in vars(model[0])
    assert vars(model[1])["forward"](3) == 3
    assert "forward" in vars(model[2])


@pytest.mark.parametrize("method", ["full", "lora", "loha", "prompt"])
@pytest.mark.parametrize("family", ["bert", "deberta-v2", "llama"])
def test_a_run_has_the_losses_of_torchs_products(
    family: str, method: str, tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = {"max_steps": 4, "dropout": 0.0, "precision": "fp32"}
    task = tiny_task(tmp_path / "data", "classification")
    run = tiny_run(task, tiny_model(family), method, training=training, learning_rate=1e-3)

    def train(faster: bool) -> list[float]:
        losses: list[float] = []
        monkeypatch.setattr(select, "is_onednn_faster", lambda: faster)
        file = tmp_path / f"state-{faster}"
        train_run(run, checkpoint=file, report=lambda progress: losses.append(progress["loss"]))
        return losses

    multiplied = 0
    multiply = onednn_products._multiply

    def count(*arguments: Any) -> Any:
        nonlocal multiplied
        multiplied += 1
        return multiply(*arguments)

    monkeypatch.setattr(onednn_products, "_multiply", count)
    expected = train(False)
    assert not multiplied
    assert train(True) == pytest.approx(expected, abs=1e-5)
    assert multiplied


@pytest.mark.parametrize(
    ("vendor", "usual", "onednn", "faster"),
    [
        ("AuthenticAMD", 2.0, 1.0, True),
        ("AuthenticAMD", 1.05, 1.0, False),
        ("GenuineIntel", 2.0, 1.0, False),
        ("", 2.0, 1.0, False),
    ],
)
def test_they_are_taken_where_a_probe_finds_them_faster(
    vendor: str, usual: float, onednn: float, faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def time_once(work: Any, device: str) -> float:
        work()
        return onednn if work.func is onednn_products._multiply else usual

    monkeypatch.setattr(onednn_products, "read_vendor", lambda: vendor)
    monkeypatch.setattr(onednn_products, "time_once", time_once)
    is_onednn_faster.cache_clear()
    try:
        assert is_onednn_faster() is faster
    finally:
        is_onednn_faster.cache_clear()
