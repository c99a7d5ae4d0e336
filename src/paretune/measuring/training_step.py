"""Bytes and seconds of a training step.

Bytes of weights, gradients, optimiser states and activations are counted from the tensors
themselves, each storage once, so they are the same on every device and in every process. They are
what a method needs; what an allocator holds is measured by :mod:`paretune.measuring.memory`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from paretune.measuring.machine import time_once
from paretune.models.quantised import QuantisedLinear


def measure_components(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    activations: ActivationMeter | None = None,
) -> tuple[dict[str, int], dict[str, str]]:
    """Bytes of weights, gradients, optimizer states, activations; and why one is not known.

    Call it between ``backward()`` and ``zero_grad()``, after at least one optimiser step: before
    that, gradients and optimiser states do not exist. Shared storages count once. If a method
    trains nothing, 0 bytes of gradients are a measurement.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    measured = {"weights_bytes": _sum_bytes(_list_weights(model))}
    missing: dict[str, str] = {}
    gradients = [p.grad for p in trained if p.grad is not None]
    if trained and not gradients:
        missing["gradients_bytes"] = "no gradient is alive: ask between backward() and zero_grad()"
    else:
        measured["gradients_bytes"] = _sum_bytes(gradients)
    states = {} if optimizer is None else optimizer.state
    if trained and optimizer is not None and not states:
        missing["optimizer_bytes"] = "the optimiser has made no step yet"
    else:
        values = (value for state in states.values() for value in state.values())
        measured["optimizer_bytes"] = _sum_bytes(v for v in values if isinstance(v, Tensor))
    if activations is None or activations.saved_tensors == 0:
        missing["activations_bytes"] = "no forward pass was watched"
    else:
        measured["activations_bytes"] = activations.activations_bytes
    return measured, missing


class ActivationMeter(saved_tensors_hooks):
    """Bytes that one forward pass saves for its backward pass.

    Use::

        with ActivationMeter(model) as activations:
            loss = model(**batch).loss
        activations.activations_bytes

    Storages of the model's own parameters and buffers are left out (they are weights), and a
    storage that several operations save counts once. Tensors that a custom ``autograd.Function``
    keeps outside ``save_for_backward`` are not counted. A recomputed (checkpointed) part saves only
    its inputs.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(self._pack, lambda tensor: tensor)
        self._weights = {_address(t) for t in _list_weights(model)}
        self._sizes: dict[int, int] = {}
        self.saved_tensors = 0

    def __enter__(self) -> ActivationMeter:  # type: ignore[override]  # of torch, None
        super().__enter__()
        return self

    @property
    def activations_bytes(self) -> int:
        """Bytes of the distinct storages saved."""
        return sum(self._sizes.values())

    def _pack(self, tensor: Tensor) -> Tensor:
        self.saved_tensors += 1
        address = _address(tensor)
        if address not in self._weights:
            size = tensor.untyped_storage().nbytes()
            self._sizes[address] = max(size, self._sizes.get(address, 0))
        # A detached alias: to hand back the tensor itself would tie it to its own graph.
        return tensor.detach()


def count_weight_bytes(model: nn.Module) -> int:
    """Bytes of all parameters, and of the buffers of quantised layers; on meta too."""
    packed = sum(
        buffer.numel() * buffer.element_size()
        for module in model.modules()
        if isinstance(module, QuantisedLinear)
        for buffer in module.buffers(recurse=False)
    )
    return packed + sum(p.numel() * p.element_size() for p in model.parameters())


def _list_weights(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _sum_bytes(tensors: Iterable[Tensor]) -> int:
    return sum({_address(t): t.untyped_storage().nbytes() for t in tensors}.values())


_SAFETENSORS_DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "float64": "F64"}


def count_safetensors_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of these floating-point tensors as a safetensors file without metadata.

    Source: the format's page, huggingface.co/docs/safetensors: eight bytes, a header of compact
    JSON filled up with spaces to a multiple of eight, and the numbers, those of larger types first.
    """
    header, at = {}, 0
    for name, tensor in sorted(tensors.items(), key=lambda kv: (-kv[1].element_size(), kv[0])):
        end = at + tensor.numel() * tensor.element_size()
        kind = _SAFETENSORS_DTYPES[str(tensor.dtype).removeprefix("torch.")]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return 8 + -(-len(text) // 8) * 8 + at


MIN_STEPS, MAX_STEPS = 5, 30
"""Fewest steps for quartiles, and most steps that are timed."""
QUARTILE_TOLERANCE = 0.1
"""A median is stable when both quartiles lie within this share of it."""


def time_steps(
    step: Callable[[int], object], device: str, *, warm_up: int, limit_seconds: float
) -> dict[str, float | int]:
    """Time steps until their median is stable, :data:`MAX_STEPS` are timed, or time is up.

    A step is begun only if it is expected to end in time; but two always are, so that the first is
    warm-up. If time is up before warm-up is over, the last step counts.

    Args:
        step: makes one step; given how many were made before it.
        warm_up: steps that are not counted: kernels are prepared, caches filled, clocks raised.

    Returns:
        ``median``, ``q1``, ``q3`` in seconds, ``n``; and ``timed_out`` where time was up before the
        median was stable.
    """
    seconds: list[float] = []
    begun = time.perf_counter()
    while True:
        seconds.append(time_once(partial(step, len(seconds)), device))
        spent = time.perf_counter() - begun
        timed_out = len(seconds) > 1 and spent + seconds[-1] > limit_seconds
        if timed_out:
            warm_up = min(warm_up, len(seconds) - 1)
        counted = seconds[warm_up:]
        if not counted:
            continue
        q1, median, q3 = (float(q) for q in np.quantile(counted, (0.25, 0.5, 0.75)))
        is_close = max(median - q1, q3 - median) <= QUARTILE_TOLERANCE * median
        is_stable = len(counted) >= MIN_STEPS and is_close
        if is_stable or timed_out or len(counted) >= MAX_STEPS:
            summary = {"median": median, "q1": q1, "q3": q3, "n": len(counted)}
            return {**summary, "timed_out": True} if timed_out and not is_stable else summary
