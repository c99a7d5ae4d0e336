"""Cross-entropy a chunk at a time is torch's own, and so are its gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from paretune.objectives import chunked_cross_entropy as chunked_module
from paretune.objectives.chunked_cross_entropy import chunk_tokens, chunked_cross_entropy

WORDS, WIDTH, TOKENS = 23, 7, 11


@pytest.fixture(params=[2, 4, 100])
def pieces(request: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many tokens are scored at a time."""
    monkeypatch.setattr(chunked_module, "MIN_CHUNK_TOKENS", request.param)
    monkeypatch.setattr(chunked_module, "EFFICIENT_TOKENS", 1)
    monkeypatch.setattr(chunked_module, "CHUNK_SCORES", {"cpu": 1})
    assert chunk_tokens(WORDS, "cpu") == request.param
    return int(request.param)


def drawn(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    hidden, weight, bias = (
        torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype) * 3
        for shape in ((TOKENS, WIDTH), (WORDS, WIDTH), (WORDS,))
    )
    tokens = torch.randint(WORDS, (TOKENS,), generator=draw)
    return hidden.requires_grad_(), weight.requires_grad_(), bias, tokens


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("softcap", [None, 4.0])
def test_it_is_the_loss_of_all_scores(
    pieces: int, smoothing: float, biased: bool, softcap: float | None
) -> None:
    hidden, weight, bias, tokens = drawn()
    head_bias = bias if biased else None
    scores = F.linear(hidden, weight, head_bias)
    if softcap is not None:
        scores = (scores / softcap).tanh() * softcap
    expected = F.cross_entropy(scores, tokens, reduction="sum", label_smoothing=smoothing)
    loss, each = chunked_cross_entropy(hidden, weight, head_bias, tokens, smoothing, softcap)
    alone = F.cross_entropy(scores, tokens, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(each, alone, rtol=1e-12, atol=1e-12)
    assert not each.requires_grad
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    for mine, other in zip(
        torch.autograd.grad(loss / 5, (hidden, weight)),
        torch.autograd.grad(expected / 5, (hidden, weight)),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)
    frozen = weight.detach()  # whose gradient is handed over once, and gradcheck asks for it twice
    assert torch.autograd.gradcheck(
        lambda h: chunked_cross_entropy(h, frozen, head_bias, tokens, smoothing, softcap)[0],
        (hidden,),
    )


def test_the_gradient_of_the_matrix_is_handed_over_once() -> None:
    hidden, weight, _, tokens = drawn()
    loss = chunked_cross_entropy(hidden, weight, None, tokens)[0]
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="handed over once"):
        loss.backward()


def test_what_is_frozen_gets_no_gradient(pieces: int) -> None:
    hidden, weight, bias, tokens = drawn()
    chunked_cross_entropy(hidden, weight.detach(), bias, tokens)[0].backward()
    assert hidden.grad is not None and weight.grad is None
    chunked_cross_entropy(hidden.detach(), weight, bias, tokens)[0].backward()
    assert weight.grad is not None
    assert not chunked_cross_entropy(hidden.detach(), weight.detach(), bias, tokens)[
        0
    ].requires_grad


def test_scores_that_overflow_alone_do_not() -> None:
    hidden, weight, _, tokens = (x.detach() for x in drawn(torch.float32))
    scores = F.linear(hidden * 1e3, weight)
    assert scores.max() > 500  # e to the power of that is no fp32
    expected = F.cross_entropy(scores, tokens, reduction="sum")
    loss, _ = chunked_cross_entropy(hidden * 1e3, weight, None, tokens)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("block", [5, chunked_module.BLOCK_WORDS])
def test_under_autocast_it_rounds_as_a_linear_layer_does(
    pieces: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked_module, "BLOCK_WORDS", block)
    hidden, weight, bias, tokens = drawn(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = F.linear(hidden, weight) + bias
        expected = F.cross_entropy(scores.float(), tokens, reduction="sum", label_smoothing=0.1)
        loss, _ = chunked_cross_entropy(hidden, weight, bias, tokens, 0.1)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    for mine, other in zip(
        torch.autograd.grad(loss, (hidden, weight)),
        torch.autograd.grad(expected, (hidden, weight)),
        strict=True,
    ):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, other, rtol=0.02, atol=0.05)


def test_a_piece_has_many_tokens_or_many_scores() -> None:
    assert chunk_tokens(8001, "cpu") == 131
    assert chunk_tokens(53_794, "cpu") == 128  # faster, and still small
    assert chunk_tokens(256_000, "cpu") == 64
    assert chunk_tokens(8001, "cuda:0") > 8000
