"""Methods that PEFT lacks, beside the plain way to write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from paretune.models.dropout import set_dropout
from paretune.testing.method_walk import unsettle
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.training.caches import ProcessCache
from paretune.training.prepare import PreparedModel, prepare

IDS = torch.randint(10, 100, (6, 12), generator=torch.Generator().manual_seed(2))
LABELS = torch.tensor([0, 1, 2, 2, 1, 0])


@pytest.fixture
def prepared(tiny_model: Any, tmp_path: Path) -> Any:
    """A method in a model of its own, in float64 and without dropout."""

    def make(method: str, family: str = "bert", **options: Any) -> PreparedModel:
        run = tiny_run(tiny_task(tmp_path, "pair"), tiny_model(family), method, options=options)
        ready = prepare(run, ProcessCache().run_model(run))
        set_dropout(ready.loaded.model.double(), 0.0)
        return ready

    return make


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "distilbert"])
def test_bitfit_trains_the_biases_of_the_model(prepared: Any, family: str) -> None:
    fitted, plain = prepared("bitfit", family), prepared("head_only", family)
    # A pooler that comes with the checkpoint lies behind the backbone and stays as it is.
    heads = tuple(f"{module}." for module in plain.loaded.anatomy.head_modules)
    biases = [
        parameter.requires_grad_(True)
        for name, parameter in plain.loaded.model.named_parameters()
        if name.endswith(".bias") and not name.startswith(heads)
    ]
    losses: list[list[float]] = []
    for side, trained in ((fitted, []), (plain, biases)):
        optimizer = torch.optim.AdamW([*side.trained.values(), *trained], lr=1e-2, weight_decay=0.0)
        losses.append([])
        side.loaded.model.train()
        for _ in range(10):
            loss = F.cross_entropy(side.loaded.model(input_ids=IDS).logits, LABELS)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    assert abs(losses[0][-1] - losses[0][0]) > 1e-3
    torch.testing.assert_close(*losses, rtol=0, atol=1e-9)


def test_where_a_layer_normalises_first_the_adapter_reads_the_feed_forward_output(
    prepared: Any,
) -> None:
    fitted = prepared("pfeiffer", "modernbert", reduction_factor=8)
    anatomy = fitted.loaded.anatomy
    model = fitted.loaded.model.eval()
    assert {layer.output_norm for layer in anatomy.layers} == {None}
    unsettle(fitted.injection.parameters.values(), by=0.5)
    whole = model(input_ids=IDS).logits
    parts = fitted.injection.adapters
    fitted.injection.undo()
    for layer in anatomy.layers:
        part = parts[layer.down]
        model.get_submodule(layer.down).register_forward_hook(
            lambda module, inputs, out, part=part: out + part.compute_change(out)
        )
    torch.testing.assert_close(model(input_ids=IDS).logits, whole, rtol=0, atol=1e-12)


def test_robust_adapterdrop_leaves_out_one_random_depth_a_step(prepared: Any) -> None:
    fitted = prepared("adapterdrop", reduction_factor=8, robust=True, drop=1)
    parts = list(fitted.injection.adapters.values())
    assert len(parts) == 2  # in all layers
    drawn = set()
    for step in range(20):
        fitted.context.step_seed = step
        depths = {part.train().count_dropped() for part in parts}
        assert len(depths) == 1  # one draw for the whole step
        drawn |= depths
        assert {part.eval().count_dropped() for part in parts} == {1}
    assert drawn == {0, 1}
    first, last = parts
    h = torch.randn(2, 3, 32, dtype=torch.float64)
    for parameter in fitted.injection.parameters.values():
        nn.init.normal_(parameter)
    assert torch.equal(first(h, h), h) and not torch.equal(last(h, h), h)
