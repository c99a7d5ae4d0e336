"""Activation cache: runs skip the layers below everything that is trained.

Where all that a run trains sits above layer k and no layer below has dropout, the input of layer k
is the same in every epoch, and for every seed, learning rate and method. A process computes it
once, for the runs that it trains one after another, and the model is given it instead of its
embeddings and lower layers. So a linear probe reads the frozen model once.

The rows of all texts of one part, one text after another, are in a file without a name, mapped into
memory: the system takes it away with the process. The least recently used make room for new ones.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from paretune.errors import StudyError
from paretune.files import data_home
from paretune.methods import Trains, configure_method
from paretune.models.changes import ModelChanges, evaluation_mode
from paretune.models.dropout import OFFSETS_PER_LAYER, has_dropout
from paretune.models.load import LoadedModel
from paretune.models.packing.apply import can_pack
from paretune.models.packing.layout import Packing
from paretune.models.structure.anatomy import Anatomy
from paretune.models.structure.layers import is_within, parent_name
from paretune.objectives.encoding import Encoded, Text
from paretune.study import Run
from paretune.training.forward.packed import arrange_sequences, begin_pass
from paretune.training.forward.passes import Compute, MicroBatch
from paretune.training.forward.select import EVALUATION_TOKENS, device_kind, split_evaluation
from paretune.training.prepare import PreparedModel

BYTES_VARIABLE = "PARETUNE_TRUNK_BYTES"
BUDGET_BYTES = 4 * 2**30
"""What a process may keep on disk unless :data:`BYTES_VARIABLE` is set; 0: no cache."""


def budget_bytes() -> int:
    """What a process may keep of activations on disk.

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
    dropout = dropout and configure_method(run.method).trains is not Trains.HEAD
    packs = training.backend == "fast" and can_pack(loaded.model)
    return packs and _can_cache(loaded.anatomy) and not dropout


def _can_cache(anatomy: Anatomy) -> bool:
    # ELECTRA may widen its embeddings on the way to the first layer.
    same_width = anatomy.embedding_width == anatomy.width
    return anatomy.topology.can_cache_activations and same_width and budget_bytes() > 0


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


RowCache = dict[tuple[Any, ...], CachedActivations]
"""What a process keeps, by model, layers, precision and examples; the last used one is last."""


def enable_activation_cache(
    prepared: PreparedModel,
    compute: Compute,
    parts: Sequence[tuple[str, Encoded]],
    weights_key: str,
    cache: RowCache,
) -> list[str]:
    """Let packed runs start from cached activations, computed now if they are not in the cache.

    ``parts``: name and examples of each part, of several runs each once. ``undo`` takes it back.
    Returns why nothing could be cached, for a reader of the results.
    """
    packing, anatomy = prepared.context.packing, prepared.loaded.anatomy
    model: Any = prepared.loaded.model
    if packing is None or packing.virtual_tokens or not prepared.trained:
        return []
    # How many layers lie below everything that a method trains or stands beside: 0 where anything
    # is outside the layers and the head, all where only the head is trained.
    layers = len(anatomy.layers)
    for name in (*prepared.trained, *prepared.injection.adapters):
        if not is_within(name, *anatomy.head_modules):
            layers = min(layers, anatomy.find_layer(name) or 0)
    if layers == 0 or has_dropout(model.base_model) or not _can_cache(anatomy):
        return []
    caches: dict[Encoded, CachedActivations] = {}
    for part, data in parts:
        key = (weights_key, layers, compute, data)
        try:
            cached = cache.pop(key) if key in cache else None
            cache[key] = cached or _compute_rows(prepared, compute, layers, data, cache)
        except OSError as error:  # the disk is full, or not ours: no cache is worth a run
            return [f"activations of the {part} part are not kept: {error}"]
        caches[data] = cache[key]
    changes = prepared.injection.changes
    changes.set(packing, "activation_caches", caches)
    changes.set(packing, "cached_hidden", None)
    skip_layers(changes, model, anatomy, packing, layers)
    return []


_INTEGERS = {torch.float32: np.uint32, torch.bfloat16: np.uint16, torch.float64: np.uint64}


def _compute_rows(
    prepared: PreparedModel, compute: Compute, layers: int, data: Encoded, cache: RowCache
) -> CachedActivations:
    """The outputs of the ``layers`` lowest layers for all texts; of all layers, the pooled row.

    Raises:
        OSError: they cannot be written, or are more than the budget.
    """
    anatomy, starts = prepared.loaded.anatomy, [0]
    packing = prepared.context.packing
    pooled = packing is not None and packing.pooled_token is not None
    for choices in data.ids:
        for tokens in choices:
            read = len(tokens) if data.completion_starts is None else len(tokens) - 1
            starts.append(starts[-1] + (1 if pooled and layers == len(anatomy.layers) else read))
    dtype = _compute_hidden(prepared, compute, layers, data, [0])[1].dtype
    integers, budget = np.dtype(_INTEGERS[dtype]), budget_bytes()
    row_bytes = anatomy.width * integers.itemsize
    size = starts[-1] * row_bytes
    if size > budget:
        raise OSError(
            f"{size / 2**20:.0f} MiB are more than the budget of {budget / 2**20:.0f} MiB"
        )
    while cache and size + sum(cached.rows.nbytes for cached in cache.values()) > budget:
        del cache[next(iter(cache))]
    home, num_choices = data_home(), len(data.ids[0])
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=home) as file:
        # Written, not mapped, while it grows: on a full disk a map would end the process.
        tokens_of_pass = EVALUATION_TOKENS[device_kind(compute.device)]
        for batch in split_evaluation(data, tokens_of_pass, prepared.context.packing, share=False):
            texts, hidden = _compute_hidden(prepared, compute, layers, data, batch)
            # The bits of (rows, 1, width) as an array of (rows, width).
            flat = hidden[:, 0].cpu().contiguous()
            bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()]
            computed, at = flat.view(bits).numpy().view(integers), 0
            for i, c in texts:
                start, stop = starts[i * num_choices + c : i * num_choices + c + 2]
                file.seek(start * row_bytes)
                file.write(computed[at : at + stop - start].tobytes())
                at += stop - start
        file.flush()
        rows = np.memmap(file, integers, "r", shape=(starts[-1], anatomy.width))
    return CachedActivations(rows, starts, dtype)


def _compute_hidden(
    prepared: PreparedModel, compute: Compute, layers: int, data: Encoded, indices: Sequence[int]
) -> tuple[list[Text], Tensor]:
    """Texts of some examples, and the lowest trained layer's inputs, (rows, 1, width)."""
    model = prepared.loaded.model
    anatomy = prepared.loaded.anatomy
    context = prepared.context
    assert context.packing is not None  # noqa: S101  (asked of packed runs only)
    with evaluation_mode(model), torch.no_grad(), compute.autocast():
        batch = MicroBatch(data, indices)
        sequences = arrange_sequences(batch, context.packing, share=False)
        inputs = begin_pass(sequences, context, compute.device)
        below = model.get_submodule(anatomy.layers[layers - 1].name)
        handle = below.register_forward_hook(_stop_behind)
        try:
            model(**inputs)
        except _StopForward as stopped:
            (hidden,) = stopped.args
        finally:
            handle.remove()
    return [text for sequence in sequences for text in sequence.scored], hidden


class _StopForward(Exception):  # noqa: N818 (not an error: the way out of a model half-way)
    """The hidden states that were asked for are computed: the argument."""


def _stop_behind(module: nn.Module, args: Any, out: Tensor) -> None:
    raise _StopForward(out)


def skip_layers(
    changes: ModelChanges, model: Any, anatomy: Anatomy, packing: Packing, depth: int
) -> None:
    """Let the model begin at layer ``depth``, with ``packing.cached_hidden``.

    A decoder's words are looked up by the module that holds the layers too, so that there the
    lowest layer gives what is cached.
    """

    def give_cached(*args: Any, **kwargs: Any) -> Any:
        packing.dropout_rng.offset = OFFSETS_PER_LAYER * depth  # as behind the layers
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
