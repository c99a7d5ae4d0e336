"""Components against arithmetic: sizes of tensors that can be counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from paretune.measuring.components import ActivationMeter, measure_components


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8, bias=False)
        self.second = nn.Linear(8, 8, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("scale", torch.ones(4))

    def forward(self, x):
        return self.second(self.first(x))


def test_tied_weights_and_buffers_count_once():
    measured, _ = measure_components(Tied(), None)
    assert measured["weights_bytes"] == (64 + 4) * 4


def test_adamw_holds_gradients_and_two_moments_of_what_is_trained():
    model = nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 4))
    model[0].requires_grad_(False)
    trained = (32 * 4 + 4) * 4
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    _, missing = measure_components(model, optimizer)
    assert set(missing) == {"gradients_bytes", "optimizer_bytes", "activations_bytes"}
    with ActivationMeter(model) as activations:
        loss = model(torch.ones(2, 16)).sum()
    loss.backward()
    optimizer.step()
    measured, missing = measure_components(model, optimizer, activations)
    assert missing == {}
    assert measured["weights_bytes"] == (16 * 32 + 32 + 32 * 4 + 4) * 4
    assert measured["gradients_bytes"] == trained
    steps = 2 * 4  # AdamW's step count, one float for each of two tensors
    assert measured["optimizer_bytes"] == 2 * trained + steps
    # The frozen first layer saves nothing; the second saves its input (2, 32).
    assert measured["activations_bytes"] == 2 * 32 * 4


def test_a_method_that_trains_nothing_has_a_measured_zero():
    model = nn.Linear(4, 4).requires_grad_(False)
    measured, missing = measure_components(model, None)
    assert measured["gradients_bytes"] == measured["optimizer_bytes"] == 0
    assert set(missing) == {"activations_bytes"}


def test_a_storage_that_two_operations_save_counts_once():
    x = torch.ones(10, 10, requires_grad=True)
    with ActivationMeter(nn.Identity()) as activations:
        y = x.exp()  # saves its result
        z = y.sin() + y.view(100).cos().sum()  # both save the same storage
    assert activations.activations_bytes == 400
    z.sum().backward()
    assert torch.isfinite(x.grad).all()


def test_weights_saved_for_backward_are_not_activations():
    model = nn.Linear(8, 8, bias=False)
    x = torch.ones(3, 8, requires_grad=True)
    with ActivationMeter(model) as activations:
        y = model(x)  # saves x and the weight
    assert activations.activations_bytes == 3 * 8 * 4
    y.sum().backward()


def test_a_recomputed_part_saves_less():
    layer = nn.Sequential(*(nn.Sequential(nn.Linear(32, 32), nn.Tanh()) for _ in range(4)))
    x = torch.ones(16, 32, requires_grad=True)
    with ActivationMeter(layer) as plain:
        layer(x)
    with ActivationMeter(layer) as recomputed:
        checkpoint(layer, x, use_reentrant=False)
    assert 0 < recomputed.activations_bytes < plain.activations_bytes


def test_watching_does_not_change_gradients():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 1))
    x = torch.randn(5, 6)
    model(x).sum().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    with ActivationMeter(model):
        loss = model(x).sum()
    loss.backward()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_no_forward_pass_is_not_zero_activations():
    model = nn.Linear(2, 2)
    with ActivationMeter(model) as activations:
        pass
    measured, missing = measure_components(model, None, activations)
    assert "activations_bytes" not in measured
    assert missing["activations_bytes"] == "no forward pass was watched"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_bytes_follow_the_element_size(dtype):
    measured, _ = measure_components(nn.Linear(4, 4, dtype=dtype), None)
    assert measured["weights_bytes"] == 20 * dtype.itemsize
