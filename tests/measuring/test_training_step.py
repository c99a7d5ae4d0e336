"""Step times: what counts, and its quartiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, cycle, repeat
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from paretune.measuring.machine import time_once
from paretune.measuring.training_step import (
    MAX_STEPS,
    MIN_STEPS,
    ActivationMeter,
    count_safetensors_bytes,
    measure_components,
    time_steps,
)


def test_on_cuda_the_device_is_waited_for_at_both_ends(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    time_once(lambda: waited.append("work"), "cuda:1")
    assert waited == ["cuda:1", "work", "cuda:1"]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Callable[[int], None]]:
    """``machine(seconds, ...)`` does something that takes these seconds, one after another."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def doing(durations: Iterator[float]) -> Callable[[int], None]:
        def once(number: int) -> None:
            now[0] += next(durations)

        return once

    return doing


def test_steady_steps_are_timed_a_few_times(machine: Any) -> None:
    result = time_steps(
        machine(chain([9.0, 5.0], repeat(1.0))), "cpu", warm_up=2, limit_seconds=1e9
    )
    assert result == pytest.approx({"median": 1.0, "q1": 1.0, "q3": 1.0, "n": MIN_STEPS})


def test_unsteady_steps_are_timed_until_their_quartiles_are_close(machine: Any) -> None:
    """As 4.34 ms beside 1.85: one of them is no figure."""
    unsteady = chain([1.0], [4.34, 1.85, 4.34, 1.85, 4.3], repeat(1.85))
    result = time_steps(machine(unsteady), "cpu", warm_up=1, limit_seconds=1e9)
    assert result["median"] == pytest.approx(1.85) and result["q3"] <= 1.85 * 1.1
    assert MIN_STEPS < result["n"] < MAX_STEPS and "timed_out" not in result


def test_what_never_settles_ends(machine: Any) -> None:
    result = time_steps(machine(cycle([1.0, 3.0])), "cpu", warm_up=1, limit_seconds=1e9)
    assert result["n"] == MAX_STEPS and "timed_out" not in result


@pytest.mark.parametrize(
    ("step", "limit", "timed", "in_all"),
    [(58.0, 20.0, 1, 2), (8.0, 20.0, 1, 2), (5.0, 20.0, 2, 4), (2.0, 9.0, 2, 4)],
)
def test_long_steps_end_in_time_and_say_so(
    machine: Any, step: float, limit: float, timed: int, in_all: int
) -> None:
    """None is begun that would not end in time, but two always are: the second one counts."""
    numbers: list[int] = []
    take = machine(repeat(step))
    result = time_steps(
        lambda number: take(numbers.append(number)), "cpu", warm_up=2, limit_seconds=limit
    )
    assert (result["n"], numbers, result["timed_out"]) == (timed, list(range(in_all)), True)
    assert result["median"] == pytest.approx(step)


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


DRAWN = np.random.default_rng(0)
MANY = {
    f"layer.{i}.weight": torch.zeros(DRAWN.integers(1, 40, DRAWN.integers(0, 4)).tolist())
    for i in range(50)
}


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"a": torch.zeros(3)},
        {'č"\\\n': torch.zeros(2, 5), "b": torch.zeros(())},
        {"z": torch.zeros(3, dtype=torch.bfloat16), "a": torch.zeros(7), "m": torch.zeros(0, 4)},
        MANY,
    ],
)
def test_the_size_is_that_of_the_file(tensors: dict[str, Tensor]) -> None:
    assert count_safetensors_bytes(tensors) == len(save(tensors))


def test_only_shapes_are_looked_at() -> None:
    """A tensor that has no numbers has a size all the same."""
    huge = {"weight": torch.empty(1 << 20, 1 << 20, device="meta")}
    assert 0 < count_safetensors_bytes(huge) - (4 << 40) < 200
