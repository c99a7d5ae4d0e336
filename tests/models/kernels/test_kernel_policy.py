"""Compiled passes against torch: the same bits of dropout, the same numbers to rounding."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from support.rotation import turn_mark
from torch import Tensor, nn

from paretune.errors import StudyError
from paretune.models.dropout.masks import draw_mask
from paretune.models.dropout.rng import DropoutRng
from paretune.models.kernels import policy
from paretune.models.packing.attention import compute_packed_attention
from paretune.models.packing.layout import AttentionRole
from paretune.models.packing.state import AttentionSettings, Packing

needs_numba = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason="needs numba: pip install numba"
)
LENGTHS, RUNS, HEADS, WIDTH = [7, 5, 5, 2, 6, 1], [4, 2], 3, 12
TARGETS = [2, 5, 1, 3, 4, 6]
Switch = Callable[[str], None]


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Switch]:
    """Compiled passes on ("1") and off ("0"); off at first."""
    monkeypatch.setenv(policy.VARIABLE, "0")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield lambda to: monkeypatch.setenv(policy.VARIABLE, to)
    torch.set_num_threads(threads)


def both(switch: Switch, compute: Callable[[], list[Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    """What is computed without compiled passes, and with them."""
    switch("0")
    plain = compute()
    switch("1")
    return plain, compute()


@needs_numba
def test_the_bits_are_numpys() -> None:
    from paretune.models.kernels.dropout_rows import _drop, sfc64_state

    for seed, place, count in ((5, (3,), 4099), (5, (3, 0), 1), (2**60, (64, 7), 1024)):
        ones, result = np.ones(count, np.float32), np.empty(count, np.float32)
        _drop(ones, result, sfc64_state(seed, place), 40_000, np.float32(1))
        p = 1 - 40_000 / 65_536
        assert (result == draw_mask(seed, place, count, p, torch.device("cpu")).numpy()).all()


@needs_numba
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_has_the_same_bits(p: float, switch: Switch) -> None:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(9, 1, 37, generator=draw)
    x[0, 0, 0] = torch.inf  # times 0 is no number, and stays seen
    inputs = torch.randn(9, 1, 37, generator=draw)

    def compute() -> list[Tensor]:
        rng = DropoutRng()
        rng.begin_pass([5, 6], [[6, 3]])
        leaf = x.clone().requires_grad_()
        out = rng.drop(leaf, p)
        assert rng.used_kernels == policy.kernels_enabled()
        return [out.detach(), *torch.autograd.grad(out, leaf, inputs)]

    for one, other in zip(*both(switch, compute), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


ATTENTIONS: list[tuple[AttentionRole, int | None]] = [
    *(("self", None), ("self", 2), ("pooled", None), ("pooled", 2)),
    ("cross", None),
]


def attended(
    role: AttentionRole, window: int | None, dropout: float, front: bool, dtype: torch.dtype
) -> list[Tensor]:
    """Output and gradients of attention over two runs' texts, and whether it was compiled."""
    packing = Packing()
    packing.layout.begin_batch(LENGTHS, RUNS, targets=TARGETS if role == "cross" else ())
    packing.dropout_rng.begin_pass([11, 12], [])
    module: Any = nn.Module()
    module.packing = packing
    draw = torch.Generator().manual_seed(1)
    rows = {"self": sum(LENGTHS), "pooled": len(LENGTHS), "cross": sum(TARGETS)}[role]
    shapes = [(rows, WIDTH), (sum(LENGTHS), WIDTH), (sum(LENGTHS), WIDTH)]
    shapes += [(len(LENGTHS), 3, WIDTH)] * 2 if front else []
    inputs = [torch.randn(*s, generator=draw).to(dtype).requires_grad_() for s in shapes]
    back = torch.randn(rows, WIDTH, generator=draw).to(dtype)
    if front:
        module.prefixes, module.ours = "ours", nn.Module()
        module.ours.keys_and_values = lambda rows: inputs[3:]
    settings = AttentionSettings(HEADS, dropout, 0.7, role, window)
    out = compute_packed_attention(module, *inputs[:3], settings)
    assert packing.dropout_rng.used_kernels == (dtype == torch.float32 and policy.kernels_enabled())
    return [out.detach(), *torch.autograd.grad(out, inputs, back)]


@needs_numba
@pytest.mark.parametrize(("role", "window"), ATTENTIONS)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("front", [False, True])
@pytest.mark.parametrize("cost", [0, 40, 10**6])
def test_attention_is_that_of_float64(
    role: AttentionRole,
    window: int | None,
    dropout: float,
    front: bool,
    cost: int,
    switch: Switch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Forward and every gradient, texts alone and together, a few scores at a time and all."""
    monkeypatch.setattr("paretune.models.packing.layout.GROUP_OVERHEAD_SCORES", cost)
    exact = attended(role, window, dropout, front, torch.float64)
    switch("1")
    from paretune.models.kernels import attention

    for at_once in (1, attention.SCORES_PER_STEP):
        monkeypatch.setattr(attention, "SCORES_PER_STEP", at_once)
        result = attended(role, window, dropout, front, torch.float32)
        for one, other in zip(result, exact, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=2e-6)


@needs_numba
def test_a_score_that_is_no_number_is_not_hidden(switch: Switch) -> None:
    from paretune.models.kernels import softmax

    for bad in (float("nan"), float("inf")):
        scores = np.zeros((1, 2, 40), np.float32)
        scores[0, 0, 33] = bad
        own = np.array([2], np.int64), np.array([40], np.int64)
        nothing = np.zeros(4, np.uint64)
        softmax.forward(scores, scores, *own, 1, 0, 0, np.float32(1), False, nothing, 0)
        assert np.isnan(scores[0, 0]).any() and np.allclose(scores[0, 1], 1 / 40)


@needs_numba
def test_the_exponential_is_that_of_float64() -> None:
    """To 2e-7 of it; over more than 100 keys with scores 100 apart the shares sum to 1."""
    from paretune.models.kernels import softmax

    draw = np.random.default_rng(0)
    scores = draw.uniform(-50, 50, (6, 20, 131)).astype(np.float32)
    exact = torch.from_numpy(scores.astype(np.float64) * np.float32(0.3)).softmax(-1).numpy()
    own = np.full(2, 20, np.int64), np.full(2, 131, np.int64)
    nothing = np.zeros(4, np.uint64)
    softmax.forward(scores, scores, *own, 3, 0, 0, np.float32(0.3), False, nothing, 0)
    line = exact > 1e-30
    assert np.abs(scores[line] / exact[line] - 1).max() < 3e-6  # of which rounding x is 2e-6
    assert scores.sum(-1) == pytest.approx(1, abs=1e-6)


@needs_numba
@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("trained", [False, True])
def test_residual_and_normalisation_are_those_of_float64(
    p: float, trained: bool, switch: Switch
) -> None:
    """Forward and gradients, of weight and bias too where they are trained."""
    draw = torch.Generator().manual_seed(1)
    hidden, residual, inputs = (torch.randn(9, 1, 36, generator=draw) for _ in range(3))
    layer = nn.LayerNorm(36, eps=1e-12).requires_grad_(trained)
    with torch.no_grad():
        layer.weight.normal_(1, 0.3, generator=draw)
        layer.bias.normal_(0, 0.3, generator=draw)

    def compute(dtype: torch.dtype) -> list[Tensor]:
        rng = DropoutRng()
        rng.begin_pass([5, 6], [[6, 3]])
        own = nn.LayerNorm(36, eps=1e-12, dtype=dtype)
        own.load_state_dict(layer.state_dict())
        own.requires_grad_(trained)
        x, y = (t.to(dtype).clone().requires_grad_() for t in (hidden, residual))
        if dtype == torch.float64:
            out = own(y + rng.drop(x, p))
        else:
            from paretune.models.kernels.add_norm import add_norm

            out = add_norm(x, y, own, rng.row_parts(len(x)), rng.next_offset(), p)
        leaves = [x, y, *(own.parameters() if trained else ())]
        return [out.detach(), *torch.autograd.grad(out, leaves, inputs.to(dtype))]

    exact = compute(torch.float64)
    switch("1")
    for one, other in zip(compute(torch.float32), exact, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=3e-6)


def test_the_switch(switch: Switch, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(2)
    assert not policy.can_use_kernels(x) and policy.describe_kernels()[0] is None
    monkeypatch.setattr(policy, "numba_version", lambda: "0.99")
    switch("1")
    assert policy.can_use_kernels(x) and policy.describe_kernels() == ("0.99", "")
    assert not policy.can_use_kernels(x, x.double()) and not policy.can_use_kernels(x.bfloat16())
    torch.set_num_threads(2)
    assert not policy.can_use_kernels(x)
    torch.set_num_threads(1)
    monkeypatch.delenv(policy.VARIABLE)
    assert policy.can_use_kernels(x)
    monkeypatch.setattr(policy, "numba_version", lambda: None)
    assert not policy.can_use_kernels(x) and "pip install numba" in policy.describe_kernels()[1]
    switch("1")
    with pytest.raises(StudyError, match="numba is not installed"):
        policy.kernels_enabled()
    monkeypatch.setattr(policy, "numba_version", lambda: "0.99")
    with policy.override_kernels(on=False):
        assert not policy.kernels_enabled()
        with policy.override_kernels(on=True):
            assert policy.kernels_enabled()
        assert not policy.kernels_enabled()
    assert policy.kernels_enabled()
    switch("yes")
    with pytest.raises(StudyError, match='invalid value "yes": expected 0 or 1'):
        policy.kernels_enabled()


@turn_mark(1, 2)
def test_nothing_imports_numba_before_a_tensor_is_computed() -> None:
    output = (
        "import sys, paretune.cli, paretune.training.trainer, paretune.measuring.machine as m;"
        "m.describe_machine(); print('numba' in sys.modules)"
    )
    free = {name: value for name, value in os.environ.items() if name != policy.VARIABLE}
    devices = [sys.executable, "-c", output]
    result = subprocess.run(devices, capture_output=True, text=True, check=True, env=free)
    assert result.stdout.strip() == "False"
