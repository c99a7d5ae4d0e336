"""Dropout masks: their share, their independence of place, seed and other runs."""

from __future__ import annotations

import pytest
import torch

from paretune.models.dropout import DropoutRng, draw_mask, drop_by_mask, keep_scale, keep_threshold


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_dropout_drops_its_share_and_keeps_the_mean(p: float, dtype: torch.dtype) -> None:
    x = torch.full((400, 500), 3.0, dtype=dtype, requires_grad=True)
    rng = DropoutRng()
    rng.begin_pass([5], [])
    out = rng.drop(x, p)
    gone = float((out == 0).double().mean())
    assert gone == pytest.approx(p, abs=4 * (p * (1 - p) / x.numel()) ** 0.5 + 1e-9)
    rest = out[out != 0].double()
    assert rest.eq(torch.tensor(3.0, dtype=dtype).mul(keep_scale(p)).double()).all()
    out.sum().backward()
    assert x.grad is not None and torch.equal(x.grad != 0, out != 0)
    rng.begin_pass([5], [])
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


def test_a_runs_dropout_does_not_depend_on_the_runs_beside_it() -> None:
    x = torch.randn(9, 4)
    rng = DropoutRng()
    rng.begin_pass([5, 6], [[6, 3], [2, 1]])
    both, few = rng.drop(x, 0.5), rng.drop(x[:3], 0.5)
    rng.begin_pass([6], [])
    assert torch.equal(rng.drop(x[6:], 0.5), both[6:])
    assert torch.equal(rng.drop(x[2:3], 0.5), few[2:])
    rng.begin_pass([5, 6], [[6, 3]])
    with pytest.raises(ValueError, match="4 rows are not those of the runs"):
        rng.drop(x[:4], 0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_kernel_of_a_gpu_is_product_and_scale(dtype: torch.dtype) -> None:
    """The operator that is called there, here on the CPU."""
    x = torch.randn(7, 33, generator=torch.Generator().manual_seed(1)).to(dtype)
    keep = draw_mask(3, (1,), x.numel(), 0.25, x.device)
    ours = drop_by_mask(x, keep, 0.25)
    mask, scale = keep.view(x.shape).bool(), keep_scale(0.25)
    assert torch.equal(torch.ops.aten.native_dropout_backward(x, mask, scale), ours)
