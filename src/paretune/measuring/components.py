"""Bytes of weights, gradients, optimiser states and activations.

Counted from the tensors themselves, each storage once, so they are the same on every device and in
every process. They are what a method needs; what an allocator holds is measured by
:mod:`paretune.measuring.memory`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from paretune.models.quantised import QuantisedLinear

if TYPE_CHECKING:
    from torch import Tensor


def measure_components(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    activations: ActivationMeter | None = None,
) -> tuple[dict[str, int], dict[str, str]]:
    """Bytes of weights, gradients, optimizer states, activations; and why one is not known.

    Call it between ``backward()`` and ``zero_grad()``, after at least one optimiser step: before
    that, gradients and optimiser states do not exist. Shared storages count once. Of a method that
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
    states = [] if optimizer is None else list(_list_states(optimizer))
    if trained and optimizer is not None and not optimizer.state:
        missing["optimizer_bytes"] = "the optimiser has made no step yet"
    else:
        measured["optimizer_bytes"] = _sum_bytes(states)
    if activations is None or activations.saved_tensors == 0:
        missing["activations_bytes"] = "no forward pass was watched"
    else:
        measured["activations_bytes"] = activations.activations_bytes
    return measured, missing


class ActivationMeter:
    """Bytes that one forward pass saves for its backward pass.

    Use::

        with ActivationMeter(model) as activations:
            loss = model(**batch).loss
        activations.activations_bytes

    Storages of the model's own parameters and buffers are left out (they are weights), and a
    storage that several operations save counts once. What a custom ``autograd.Function`` keeps
    outside ``save_for_backward`` is not counted. A recomputed (checkpointed) part saves only its
    inputs.
    """

    def __init__(self, model: nn.Module) -> None:
        self._own = {_address(t) for t in _list_weights(model)}
        self._sizes: dict[int, int] = {}
        self.saved_tensors = 0
        self._hooks = saved_tensors_hooks(self._pack, _unpack)

    @property
    def activations_bytes(self) -> int:
        """Bytes of the distinct storages saved."""
        return sum(self._sizes.values())

    def _pack(self, tensor: Tensor) -> Tensor:
        self.saved_tensors += 1
        address = _address(tensor)
        if address not in self._own:
            size = tensor.untyped_storage().nbytes()
            self._sizes[address] = max(size, self._sizes.get(address, 0))
        # A detached alias: to hand back the tensor itself would tie it to its own graph.
        return tensor.detach()

    def __enter__(self) -> ActivationMeter:
        self._hooks.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hooks.__exit__(kind, error, trace)


def _unpack(tensor: Tensor) -> Tensor:
    return tensor


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


def _list_states(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor):
                yield value


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _sum_bytes(tensors: Iterable[Tensor]) -> int:
    return sum({_address(t): t.untyped_storage().nbytes() for t in tensors}.values())


_SAFETENSORS_DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "float64": "F64"}


def count_tensor_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of the tensors' elements."""
    return sum(t.numel() * t.element_size() for t in tensors.values())


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
