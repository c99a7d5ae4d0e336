"""Holds the weights of a loaded model in fp32, frozen ones in bf16, or quantised.

A model is opened in the precision of its checkpoint; its tensors are views of the mapped files, not
read yet. :func:`store_weights` then goes through them once, one after another: it reads a tensor,
checks that it is finite, and replaces it by its stored form; the pages of the file are given back
before the next is read. So a process never holds more than the stored weights and one tensor.

Under autocast every product casts its weight to bf16, at every step. A weight that is never trained
can be cast once, with the same bits in every product and half the memory: so are the backbone's
linear layers, and a decoder's word tables, which may be most of it. Normalisations, biases and an
encoder's embeddings stay in fp32: autocast does not cast them either.
"""

from __future__ import annotations

import copy
import ctypes
import mmap
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paretune.errors import ModelError
from paretune.models.quantised import quantise, quantised_bytes
from paretune.models.structure.anatomy import Anatomy
from paretune.study.specs import Quantisation

_PIECE = 2**20
"""Numbers of a table that are converted at once."""


@dataclass(frozen=True)
class WeightStorage:
    """The form in which weights are held: by default fp32.

    Attributes:
        bf16: frozen matrices are in bf16, so that products under autocast have the same bits.
        quantisation: the linear layers of the backbone are quantised.
    """

    bf16: bool = False
    quantisation: Quantisation | None = None


def store_weights(
    model: Any, anatomy: Anatomy, storage: WeightStorage, folder: Path, where: str
) -> None:
    """Hold the weights of a model in this way; in place.

    Args:
        folder: of the files that the model was opened from.

    Raises:
        ModelError: a weight is not finite.
        MissingDependencyError: what quantises is not installed.
    """
    halves = {id(p) for p in bf16_parameters(model, anatomy)} if storage.bf16 else set()
    mapped = _mapped_ranges(folder)
    for pages in mapped:  # opening them has read a part
        _release(pages.start, pages.stop)
    for name in _quantised_layers(model, anatomy, storage):
        layer = model.get_submodule(name)
        require_finite(f"{name}.weight", layer.weight, where)
        assert storage.quantisation is not None  # noqa: S101  (there are no such layers)
        model.set_submodule(name, quantise(layer, storage.quantisation))
        _release_pages(layer.weight, mapped)
    for name, parameter in model.named_parameters():
        dtype = torch.bfloat16 if id(parameter) in halves else torch.float32
        if not parameter.is_floating_point() or parameter.dtype == dtype:
            require_finite(name, parameter, where)
        else:
            # A piece at a time: tables are large.
            converted = torch.empty(parameter.shape, dtype=dtype)
            pieces = torch.split(parameter.data.reshape(-1), _PIECE)
            targets = torch.split(converted.view(-1), _PIECE)
            for piece, target in zip(pieces, targets, strict=True):
                require_finite(name, piece, where)
                target.copy_(piece)
                _release_pages(piece, mapped)
            parameter.data = converted
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.dtype in (torch.bfloat16, torch.float16):
                module._buffers[name] = buffer.float()
    for table in _tables(model):
        if table.weight.dtype == torch.bfloat16:
            table.register_forward_hook(_look_up_in_fp32)
    model.config.dtype = torch.float32  # tensors that stay in fp32 are created by it


def stored_bytes(model: Any, anatomy: Anatomy, storage: WeightStorage) -> int:
    """Bytes of all parameters as :func:`store_weights` leaves them; on meta too."""
    halves = {id(p) for p in bf16_parameters(model, anatomy)} if storage.bf16 else set()
    layers = [model.get_submodule(name) for name in _quantised_layers(model, anatomy, storage)]
    packed = {id(layer.weight) for layer in layers}
    total = 0
    for parameter in model.parameters():
        if id(parameter) not in packed:
            total += parameter.numel() * (2 if id(parameter) in halves else 4)
    if storage.quantisation is not None:
        total += sum(quantised_bytes(layer, storage.quantisation) for layer in layers)
    return total


def bf16_parameters(model: Any, anatomy: Anatomy) -> list[Tensor]:
    """Parameters that are held in bf16 where the base is."""
    # A matrix that another module uses too (an output layer tied to the embeddings) stays as it is.
    matrices = [layer.weight for _, layer in _unshared_matrices(model, anatomy)]
    if anatomy.topology.holds_tables_in_bf16:
        outputs = model.get_output_embeddings()
        matrices += [table.weight for table in _tables(model)]
        matrices += [] if outputs is None else [outputs.weight]
    return matrices


def _quantised_layers(model: Any, anatomy: Anatomy, storage: WeightStorage) -> list[str]:
    """Linear layers of the backbone, without the output layer and modules that have to be fp32.

    ``transformers`` leaves these out of its quantisation too (``get_modules_to_not_convert``).
    """
    if storage.quantisation is None:
        return []
    fp32_modules = [*(getattr(model, "_keep_in_fp32_modules", None) or ())]
    outputs = model.get_output_embeddings()
    return [
        name
        for name, layer in _unshared_matrices(model, anatomy)
        if layer is not outputs and not set(name.split(".")).intersection(fp32_modules)
    ]


def _unshared_matrices(model: Any, anatomy: Anatomy) -> list[tuple[str, nn.Linear]]:
    """Linear layers of the backbone whose matrix no other module uses."""
    uses = Counter(
        parameter
        for module in model.modules()
        for parameter in module._parameters.values()
        if parameter is not None
    )
    layers = ((name, model.get_submodule(name)) for name in anatomy.linear_layers)
    return [
        (name, layer)
        for name, layer in layers
        if isinstance(layer, nn.Linear) and uses[layer.weight] == 1
    ]


def _tables(model: Any) -> Sequence[nn.Embedding]:
    words = model.get_input_embeddings()
    return [words] if isinstance(words, nn.Embedding) else []


def _look_up_in_fp32(table: Any, args: tuple[Tensor, ...], looked_up: Tensor) -> Tensor | None:
    """Forward hook of a table in bf16: what one in fp32 with the same numbers gives."""
    if table.weight.dtype != torch.bfloat16:
        return None
    if type(table).forward is nn.Embedding.forward:
        return looked_up.float()
    (ids,) = args  # it scales what it looks up: in fp32, from the rows
    rows = embed_rows(table, F.embedding(ids.flatten(), table.weight).float())
    return rows.reshape(*ids.shape, -1)


def require_finite(name: str, tensor: Tensor, where: str) -> None:
    """ModelError where a weight holds a value that is no finite number."""
    if not tensor.is_floating_point() or not tensor.numel():
        return
    if not all(map(torch.isfinite, torch.aminmax(tensor.detach()))):
        raise ModelError(
            f"its weights hold values that are no finite numbers ({name}).",
            where=where,
            remedy="They are damaged, or training them failed: fetch or train them again.",
        )


def _release_pages(tensor: Tensor, mapped: Sequence[range]) -> None:
    """Give back the pages of a mapped file that a tensor has been read from.

    They stay in the system's page cache, but are no more memory of this process. Only whole pages
    of the tensor's own, and of a file: memory of another kind would be lost.
    """
    first = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if first < last and any(first in pages and last - 1 in pages for pages in mapped):
        _release(first, last)


def _release(first: int, last: int) -> None:
    libc = ctypes.CDLL(None)
    libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)


def _mapped_ranges(folder: Path) -> list[range]:
    """Addresses of this process at which the weight files of a folder are mapped.

    A file of which a page was written to is left out: that page is in memory alone. There are none
    but on Linux: there the pages are given back when nothing refers to the files any more.
    """
    if not sys.platform.startswith("linux"):
        return []
    files = {str(path.resolve()) for path in folder.glob("*.safetensors")}
    ranges: list[range] = []
    written: list[range] = []
    current = None
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8", errors="replace").splitlines():
        name, *values = line.split(maxsplit=5)
        if not name.endswith(":"):  # the first line of a mapping
            current = None
            if len(values) == 5 and values[4] in files:
                first, last = (int(address, 16) for address in name.split("-"))
                current = range(first, last)
                ranges.append(current)
        elif name == "Private_Dirty:" and values[0] != "0" and current is not None:
            written.append(current)
    return [pages for pages in ranges if pages not in written]


def embed_rows(words: Any, rows: Tensor) -> Tensor:
    """The embedding module's output for tokens with these rows as weights; (n, width)."""
    twin = copy.copy(words)
    # Only its class's forward pass: none of the rows is padding, and no hook is called.
    vars(twin).update(_parameters={"weight": rows}, padding_idx=None)
    looked_up: Tensor = type(words).forward(twin, torch.arange(len(rows), device=rows.device))
    return looked_up
