"""Quantised linear layers: the stored numbers are those of bitsandbytes, the products exact."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from paretune.errors import MissingDependencyError
from paretune.models import quantised
from paretune.models.quantised import (
    count_parameters,
    dequantise,
    is_quantised,
    quantise,
    quantised_bytes,
    require_backend,
)
from paretune.study.specs import Quantisation

KINDS: tuple[Quantisation, ...] = ("nf4", "int8")
SHAPES = ((96, 64), (33, 50), (130, 640), (7, 3))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Quantisation:
    chosen: Quantisation = request.param
    try:
        require_backend(chosen, "test")
    except MissingDependencyError as error:
        pytest.skip(str(error))
    return chosen


def layer(shape: tuple[int, int], dtype: torch.dtype = torch.float32) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(shape[1], shape[0]).to(dtype).requires_grad_(False)


@pytest.fixture
def in_eager_mode() -> Iterator[None]:
    """bitsandbytes compiles what its native code does not take, in 15 s where g++ is there."""
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.mark.usefixtures("in_eager_mode")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_numbers_are_those_of_bitsandbytes(
    shape: tuple[int, int], dtype: torch.dtype, kind: Quantisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    functional = pytest.importorskip("bitsandbytes").functional
    weight = layer(shape, dtype).weight.detach()
    if kind == "nf4":
        packed, state = functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
        expected = functional.dequantize_4bit(packed, state).reshape(shape)
    else:
        packed, scales, _ = functional.int8_vectorwise_quant(weight.half())
        expected = functional.int8_vectorwise_dequant(packed, scales).to(dtype)
    for chunk in (quantised._CHUNK, 700):  # whole, and in pieces of some rows
        monkeypatch.setattr(quantised, "_CHUNK", chunk)
        own = quantise(layer(shape, dtype), kind).dequantise(dtype)
        if kind == "nf4":
            assert torch.equal(own, expected)
        else:  # it rounds to fp16 before it quantises
            torch.testing.assert_close(own, expected, rtol=0, atol=float(weight.abs().max()) / 100)


@pytest.mark.parametrize("shape", SHAPES)
def test_bytes_are_those_that_are_predicted(shape: tuple[int, int], kind: Quantisation) -> None:
    own = quantise(layer(shape), kind)
    size = sum(b.numel() * b.element_size() for b in own.buffers())
    assert size == quantised_bytes(nn.Linear(shape[1], shape[0], device="meta"), kind)
    assert count_parameters(own) == shape[0] * shape[1] + shape[0]


def test_a_row_of_zeros_stays_zeros(kind: Quantisation) -> None:
    plain = layer((4, 64))
    plain.weight[2] = 0
    assert not quantise(plain, kind).weight[2].any()


@pytest.mark.parametrize("autocast", [False, True])
def test_products_and_gradients_are_those_of_the_dequantised_matrix(
    autocast: bool, kind: Quantisation
) -> None:
    own = quantise(layer((96, 64)), kind)
    own.bias.requires_grad_(True)
    x = torch.randn(2, 5, 64, requires_grad=True)
    y, bias = x.detach().clone().requires_grad_(True), own.bias.detach().clone()
    bias.requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out, expected = own(x), F.linear(y, own.weight, bias)
    assert out.dtype == expected.dtype == (torch.bfloat16 if autocast else torch.float32)
    assert torch.equal(out, expected)
    for result in (out, expected):
        (result.float() ** 2).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and y.grad is not None
    tolerance = 1e-2 if autocast else 1e-5
    torch.testing.assert_close(x.grad, y.grad, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(own.bias.grad, bias.grad, rtol=tolerance, atol=tolerance)


def test_nothing_of_the_full_matrix_is_kept_for_the_backward_pass(kind: Quantisation) -> None:
    own, saved = quantise(layer((512, 512)), kind), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()), lambda t: t):
        own(torch.randn(2, 512, requires_grad=True))
    assert sum(saved) < 512 * 512 / 8


def test_what_is_written_into_the_weight_is_not_lost_in_silence(kind: Quantisation) -> None:
    own = quantise(layer((8, 64)), kind)
    with pytest.raises(AttributeError):
        own.weight += 1
    with pytest.raises((AttributeError, KeyError)):
        own.weight = nn.Parameter(torch.zeros(8, 64))  # type: ignore[misc]


def test_dequantised_it_is_a_plain_layer_with_the_same_products(kind: Quantisation) -> None:
    model = nn.Sequential(quantise(layer((8, 64)), kind), nn.ReLU())
    x = torch.randn(3, 64)
    before = model(x)
    assert is_quantised(model)
    dequantise(model)
    assert not is_quantised(model) and type(model[0]) is nn.Linear
    assert list(model.state_dict()) == ["0.weight", "0.bias"]
    assert torch.equal(model(x), before)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [n for n in sys.modules if n.partition(".")[0] == "bitsandbytes"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingDependencyError, match="nf4 needs the package bitsandbytes"):
        require_backend("nf4", "model x")
    require_backend("int8", "model x")
