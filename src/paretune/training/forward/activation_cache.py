"""Activation cache: runs skip the layers below everything that is trained.

Where all that a run trains sits above layer k and no layer below has dropout, the input of layer k
is the same in every epoch, and for every seed, learning rate and method. It is computed once,
stored on disk, and given to the model instead of its embeddings and lower layers.

A file holds the rows of all texts of one part, one text after another, in the order of the part,
as a plain npy array (``allow_pickle`` is off) with a checksum behind it. Its name is a hash of what
it was computed from: weights, layer, precision and tokens, so it is never stale. One that is
damaged is computed again. The least recently used files make room for new ones.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from paretune.errors import StudyError
from paretune.files import (
    CHECKSUM_BYTES,
    activation_cache_home,
    has_valid_checksum,
    replace_file,
    write_checksum,
)
from paretune.measuring.machine import describe_device
from paretune.models.changes import ModelChanges
from paretune.models.dropout import has_dropout
from paretune.models.load import LoadedModel
from paretune.models.packing.apply import can_pack
from paretune.models.packing.layout import Packing
from paretune.models.structure.anatomy import Anatomy
from paretune.models.structure.layers import is_within, parent_name
from paretune.objectives.encoding import Encoded, Text
from paretune.study import Run
from paretune.training.forward.packed import arrange_sequences, begin_pass, read_tokens
from paretune.training.forward.passes import Compute, MicroBatch
from paretune.training.forward.select import EVALUATION_TOKENS, device_kind, split_evaluation
from paretune.training.prepare import PreparedModel

BYTES_VARIABLE = "PARETUNE_TRUNK_BYTES"
BUDGET_BYTES = 4 * 2**30
"""What cached activations may take on disk unless :data:`BYTES_VARIABLE` is set; 0: no cache."""


def budget_bytes() -> int:
    """What cached activations may take on disk.

    Raises:
        StudyError: the environment variable is not a number of bytes.
    """
    value = os.environ.get(BYTES_VARIABLE, "")
    if not value:
        return BUDGET_BYTES
    if not value.isdigit():
        raise StudyError(
            f'invalid size "{value}": expected a number of bytes',
            where=BYTES_VARIABLE,
            remedy="Write e.g. 4294967296; 0 turns the cache off.",
        )
    return int(value)


def keeps_activations(run: Run, loaded: LoadedModel) -> bool:
    """Whether the layers below all that a run trains are computed once for all epochs.

    Before the run is prepared: as far as model and settings say it.
    """
    training = run.training
    dropout = has_dropout(loaded.model) if training.dropout is None else training.dropout > 0
    packs = training.backend == "fast" and can_pack(loaded.model)
    return packs and _can_cache(loaded.anatomy) and not dropout


def _can_cache(anatomy: Anatomy) -> bool:
    # ELECTRA may widen its embeddings on the way to the first layer.
    same_width = anatomy.embedding_width == anatomy.width
    return anatomy.topology.can_cache_activations and same_width and budget_bytes() > 0


def enable_activation_cache(
    prepared: PreparedModel,
    compute: Compute,
    parts: Sequence[tuple[str, Encoded]],
    weights_hash: str,
) -> list[str]:
    """Let packed runs start from cached activations, computed now if they are not on disk.

    ``parts``: name and examples of each part, of several runs each once. ``undo`` takes it back.
    Returns why nothing could be cached, for a reader of the results.
    """
    packing, model, anatomy = prepared.fleet.packing, prepared.loaded.model, prepared.loaded.anatomy
    if packing is None or packing.virtual_tokens or not prepared.trained:
        return []
    layers = count_frozen_layers(anatomy, [*prepared.trained, *prepared.injection.adapters])
    if layers == 0 or has_dropout(model) or not _can_cache(anatomy):
        return []
    frozen = _FrozenLayers(prepared, compute, layers, weights_hash)
    caches: dict[Encoded, CachedActivations] = {}
    for part, data in parts:
        cached = frozen.load_or_compute(data)
        if isinstance(cached, str):
            return [f"activations of the {part} part are not kept: {cached}"]
        caches[data] = cached
    changes = ModelChanges()
    changes.set(packing, "activation_caches", caches)
    changes.set(packing, "cached_hidden", None)
    skip_layers(changes, model, anatomy, packing, layers)
    prepared.injection.changes.absorb(changes)
    return []


@dataclass(frozen=True)
class _FrozenLayers:
    """The lowest layers, which no run changes; ``layers`` is their number."""

    prepared: PreparedModel
    compute: Compute
    layers: int
    weights_hash: str

    def load_or_compute(self, data: Encoded) -> CachedActivations | str:
        """Inputs of the lowest trained layer for every text; a string: why they are not cached."""
        anatomy = self.prepared.loaded.anatomy
        places = [(i, c) for i, choices in enumerate(data.ids) for c in range(len(choices))]
        texts = [read_tokens(data, text) for text in places]
        only_first = self.layers == len(anatomy.layers)
        starts = [0]
        for text in texts:
            starts.append(starts[-1] + (1 if only_first else len(text)))
        types = (
            []
            if data.type_ids is None
            else [types for choices in data.type_ids for types in choices]
        )
        where = " ".join(describe_device(self.compute.device).values())
        made_by = (self.weights_hash, self.layers, only_first, self.compute.precision, where)
        return load_or_compute(
            activation_cache_home(),
            cache_key(*made_by, torch.__version__, texts=texts + types),
            starts,
            anatomy.width,
            self._hidden(data, [0])[1].dtype,
            budget_bytes(),
            lambda write: self._fill(write, starts, data),
        )

    def _fill(self, write: WriteRows, starts: Sequence[int], data: Encoded) -> None:
        choices, packing = len(data.ids[0]), self.prepared.fleet.packing
        tokens = EVALUATION_TOKENS[device_kind(self.compute.device)]
        for batch in split_evaluation(data, tokens, packing, share=False):
            texts, hidden = self._hidden(data, batch)
            computed, at = to_integers(hidden), 0
            for i, c in texts:
                start, stop = starts[i * choices + c : i * choices + c + 2]
                write(start, computed[at : at + stop - start])
                at += stop - start

    def _hidden(self, data: Encoded, indices: Sequence[int]) -> tuple[list[Text], Tensor]:
        """Texts of some examples, and the lowest trained layer's inputs, (rows, 1, width)."""
        model, fleet = self.prepared.loaded.model, self.prepared.fleet
        was_training = model.training
        model.eval()
        with torch.no_grad(), self.compute.autocast():
            # Below what is trained all runs are the same: the first one has all rows.
            absent = [MicroBatch(data)] * (fleet.runs - 1)
            batches = [MicroBatch(data, indices), *absent]
            assert fleet.packing is not None  # noqa: S101  (asked of packed runs only)
            sequences = arrange_sequences(batches, fleet.packing, share=False)
            inputs = begin_pass(sequences, fleet, self.compute.device)
            anatomy = self.prepared.loaded.anatomy
            below = model.get_submodule(anatomy.layers[self.layers - 1].name)
            handle = below.register_forward_hook(_stop_behind)
            try:
                model(**inputs)
            except _StopForward as stopped:
                hidden = stopped.hidden
            finally:
                handle.remove()
        model.train(was_training)
        return [text for sequence in sequences[0] for text in sequence.scored], hidden


class _StopForward(Exception):  # noqa: N818 (not an error: the way out of a model half-way)
    """The hidden states that were asked for are computed."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden


def _stop_behind(module: nn.Module, args: Any, out: Tensor) -> None:
    raise _StopForward(out)


def count_frozen_layers(anatomy: Anatomy, touched: Iterable[str]) -> int:
    """How many layers lie below everything that a method trains or stands beside (``touched``).

    0 where anything is outside the layers and the head; all where only the head is trained.
    """
    lowest = len(anatomy.layers)
    for name in touched:
        if any(is_within(name, module) for module in anatomy.head_modules):
            continue
        lowest = min(lowest, anatomy.find_layer(name) or 0)
    return lowest


def skip_layers(
    changes: ModelChanges, model: Any, anatomy: Anatomy, packing: Packing, depth: int
) -> None:
    """Let the model begin at layer ``depth``, with ``packing.cached_hidden``.

    A decoder's words are looked up by the module that holds the layers too, so that there the
    lowest layer gives what is cached.
    """

    def give_cached(*args: Any, **kwargs: Any) -> Any:
        return packing.cached_hidden

    def pass_on(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return hidden_states

    for layer in anatomy.layers[:depth]:
        changes.set(model.get_submodule(layer.name), "forward", pass_on)
    beginning = parent_name(anatomy.word_embeddings)
    if is_within(anatomy.layers[0].name, beginning):
        beginning = anatomy.layers[0].name
    changes.set(model.get_submodule(beginning), "forward", give_cached)
    changes.set(packing, "skipped_layers", depth)


WriteRows = Callable[[int, NDArray[Any]], None]
"""``(first_row, rows)``: writes some rows at their place."""
_INTEGERS = {torch.float32: np.uint32, torch.bfloat16: np.uint16, torch.float64: np.uint64}


@dataclass(frozen=True)
class CachedActivations:
    """The rows of a part, mapped from a file.

    Shapes: ``rows`` (all rows, width) as integers of the size of ``dtype``; ``starts``
    (texts + 1,).
    """

    rows: NDArray[Any]
    starts: list[int]
    dtype: torch.dtype

    def rows_of(self, texts: Iterable[int]) -> Tensor:
        """The rows of these texts, one text after another; (rows, 1, width)."""
        parts = [self.rows[self.starts[t] : self.starts[t + 1]] for t in texts]
        return torch.from_numpy(np.concatenate(parts)).view(self.dtype)[:, None]


def cache_key(*facts: Any, texts: Sequence[Sequence[int]]) -> str:
    """A name for the rows of texts: a hash of the texts and of the facts that decide the rows."""
    digest = hashlib.sha256(repr(facts).encode())
    for text in texts:
        digest.update(np.array([len(text), *text], dtype=np.int64).tobytes())
    return digest.hexdigest()[:40]


def load_or_compute(
    folder: Path,
    name: str,
    starts: list[int],
    width: int,
    dtype: torch.dtype,
    budget_bytes: int,
    compute: Callable[[WriteRows], None],
) -> CachedActivations | str:
    """The rows of that name, computed and written atomically if there is no whole file of them.

    Args:
        starts: first row of each text, and the number of rows.
        budget_bytes: that all files together may take; older ones are deleted for a new one.
        compute: given a function that writes (rows, width), integers of the size of ``dtype``.

    Returns:
        The rows; or why they are not cached, in words.
    """
    integers = _INTEGERS[dtype]
    size = starts[-1] * width * np.dtype(integers).itemsize
    if size > budget_bytes:
        return f"{size / 2**20:.0f} MiB are more than the budget of {budget_bytes / 2**20:.0f} MiB"
    path = folder / f"{name}.npy"
    if not _is_whole(path):
        try:
            with replace_file(path) as part:
                _make_room(folder, budget_bytes - size)
                _write_rows(part, np.dtype(integers), (starts[-1], width), compute)
        except OSError as error:  # the disk is full, or not ours: no cache is worth a run
            return f"{folder} cannot be written ({error})"
    with suppress(OSError):
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))  # used now
    return CachedActivations(np.load(path, mmap_mode="r", allow_pickle=False), starts, dtype)


_checked: dict[Path, tuple[int, int, int]] = {}
"""Inode, size and time of change of the files that this process has read to their end."""


def _is_whole(path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    identity = (status.st_ino, status.st_size, status.st_mtime_ns)
    if _checked.get(path) != identity:
        if not has_valid_checksum(path):
            return False
        _checked[path] = identity
    return True


def _write_rows(
    part: Path,
    integers: np.dtype[Any],
    shape: tuple[int, int],
    compute: Callable[[WriteRows], None],
) -> None:
    """Write an npy file and its checksum; not through memory maps: a full disk would be SIGBUS."""
    header = {"descr": integers.str, "fortran_order": False, "shape": shape}
    row_bytes = shape[1] * integers.itemsize
    with part.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()

        def write(first_row: int, rows: NDArray[Any]) -> None:
            file.seek(start + first_row * row_bytes)
            file.write(rows.tobytes())

        compute(write)
        file.seek(start + shape[0] * row_bytes)
        file.write(bytes(CHECKSUM_BYTES))
    write_checksum(part)


def _make_room(folder: Path, allowed_bytes: int) -> None:
    """Delete the least recently used files until the rest is small enough.

    What other processes are writing counts too.
    """
    files = []
    for path in folder.iterdir():
        with suppress(OSError):  # another process deleted it
            status = path.stat()
            files.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    used_bytes = sum(size for _, size, _ in files)
    for _, size, path in sorted(file for file in files if file[2].suffix == ".npy"):
        if used_bytes <= allowed_bytes:
            return
        with suppress(OSError):
            path.unlink()
        used_bytes -= size


def to_integers(hidden: Tensor) -> NDArray[Any]:
    """The bits of (rows, 1, width) as an array of (rows, width)."""
    flat = hidden[:, 0].cpu().contiguous()
    dtypes = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return flat.view(dtypes[flat.element_size()]).numpy().view(_INTEGERS[flat.dtype])
