"""Dropout: its masks, and the probabilities of a model."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModelForSequenceClassification

from paretune.models.dropout import (
    DropoutRng,
    draw_mask,
    drop_by_mask,
    keep_scale,
    keep_threshold,
    read_dropout_rates,
    restore_dropout,
    seeded_dropout,
    set_dropout,
)
from paretune.testing.tiny_models import FAMILIES


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_dropout_drops_its_share_and_keeps_the_mean(p: float, dtype: torch.dtype) -> None:
    x = torch.full((400, 500), 3.0, dtype=dtype, requires_grad=True)
    rng = DropoutRng()
    rng.begin_pass(5)
    out = rng.drop(x, p)
    gone = float((out == 0).double().mean())
    assert gone == pytest.approx(p, abs=4 * (p * (1 - p) / x.numel()) ** 0.5 + 1e-9)
    rest = out[out != 0].double()
    assert rest.eq(torch.tensor(3.0, dtype=dtype).mul(keep_scale(p)).double()).all()
    out.sum().backward()
    assert x.grad is not None and torch.equal(x.grad != 0, out != 0)
    rng.begin_pass(5)
    assert torch.equal(rng.drop(x, p), out)
    again = rng.drop(x, p)  # the next place draws anew
    assert p == 0 or not torch.equal(again, out)


def test_what_is_kept_is_independent_of_place_and_seed() -> None:
    """Correlation of masks of neighbouring seeds and places: 4 standard errors at most."""
    n, cpu = 1 << 18, torch.device("cpu")
    masks = [
        draw_mask(seed, place, n, 0.5, cpu).double()
        for seed in (7, 8)
        for place in ((1,), (2,), (1, 0))
    ]
    for i, one in enumerate(masks):
        for other in masks[:i]:
            together = torch.corrcoef(torch.stack([one, other]))[0, 1]
            assert abs(float(together)) < 4 / n**0.5
    assert keep_threshold(1.0 - 2**-17) == 1  # something is always kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_kernel_of_a_gpu_is_product_and_scale(dtype: torch.dtype) -> None:
    """The operator that is called there, here on the CPU."""
    x = torch.randn(7, 33, generator=torch.Generator().manual_seed(1)).to(dtype)
    keep = draw_mask(3, (1,), x.numel(), 0.25, x.device)
    ours = drop_by_mask(x, keep, 0.25)
    mask, scale = keep.view(x.shape).bool(), keep_scale(0.25)
    assert torch.equal(torch.ops.aten.native_dropout_backward(x, mask, scale), ours)


IDS = torch.arange(5, 25)[None]


@pytest.mark.parametrize("family", FAMILIES)
def test_without_dropout_training_equals_evaluation(tiny_model, family):
    # The families' defaults differ, and ModernBERT's are 0: set them all, attention's included.
    extra = {"attention_dropout": 0.3, "mlp_dropout": 0.3} if family == "modernbert" else {}
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model(family), **extra)
    as_loaded = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
    config, rates = model.config.to_dict(), read_dropout_rates(model)
    with torch.no_grad():
        quiet = model.eval()(IDS).logits
        assert not torch.allclose(model.train()(IDS).logits, quiet, atol=1e-5)
        set_dropout(model, 0.0)
        assert torch.equal(model.train()(IDS).logits, model.eval()(IDS).logits)
        set_dropout(model, 0.4)
        assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.4}
        assert not torch.allclose(model.train()(IDS).logits, quiet, atol=1e-5)
    restore_dropout(model, rates)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == as_loaded
    assert model.config.to_dict() == config


def seeded_rng() -> DropoutRng:
    rng = DropoutRng()
    rng.begin_pass(11)
    return rng


def test_torch_draws_by_it_while_it_is_open() -> None:
    before, x = F.dropout, torch.ones(5, 9, 7)
    with seeded_dropout(seeded_rng()):
        assert torch.equal(F.dropout(x, 0.3), seeded_rng().drop(x, 0.3))
        assert F.dropout(x, 0.3, training=False) is x
    assert F.dropout is before
