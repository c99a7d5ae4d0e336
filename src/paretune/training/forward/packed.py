"""Packed forward passes: no padding is computed.

Each row of a packed batch is one token; the texts of all runs follow one another, and attention
knows where each begins (:mod:`paretune.models.packing`). Run 0 comes first, and of each run the
longest text, so that texts of similar length are computed together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paretune.device_transfer import to_device
from paretune.methods.core.run_axis import Fleet
from paretune.models.packing.layout import Packing
from paretune.models.structure.heads import lm_head, logit_softcap, shift_right
from paretune.objectives.encoding import IGNORE_INDEX, Encoded, Text, pad_batch
from paretune.objectives.token_outputs import TokenStates
from paretune.training.forward.micro_batch import Compute, Forward, MicroBatch, Splitter
from paretune.training.forward.shared_prefixes import Prefixes, find_prefixes, plant_trees


@dataclass(frozen=True)
class PackedForward:
    """Runs packed batches of one or several runs through a model with a classifier."""

    model: Any
    fleet: Fleet
    compute: Compute
    splitter: Splitter

    def __call__(self, micro_batches: Sequence[MicroBatch]) -> list[Tensor]:
        """Logits of each run's examples: (examples, labels), or (examples, choices)."""
        packing, device = packing_of(self.fleet), self.compute.device
        texts, inputs = pack_inputs(micro_batches, self.fleet, device)
        if packing.activation_caches:
            packing.cached_hidden = _load_cached(packing, micro_batches, texts, device)
        packed: Tensor = self.model(**inputs).logits
        packing.cached_hidden = None
        pieces = torch.split(packed, [len(own) for own in texts])
        return [
            _restore_order(batch, own, piece)
            for batch, own, piece in zip(micro_batches, texts, pieces, strict=True)
        ]


def packing_of(fleet: Fleet) -> Packing:
    """The packing of a fleet with packed batches."""
    assert fleet.packing is not None  # noqa: S101  (made with a packed model)
    return fleet.packing


def pack_inputs(
    micro_batches: Sequence[MicroBatch], fleet: Fleet, device: str
) -> tuple[list[list[Text]], dict[str, Tensor]]:
    """Begin a packed pass: example and choice of each text, by runs; and the model's inputs.

    Shapes: (rows, 1); of sequence-to-sequence those of the encoder. The longest come first, targets
    included. The last token of a completion is scored, but predicts none: it has no row.
    """
    packing = packing_of(fleet)
    texts: list[list[Text]] = []
    lengths: list[int] = []
    targets: list[int] = []
    tails: list[int] = []
    for batch in micro_batches:
        data = batch.data
        own = [(i, c) for i in batch.indices for c in range(len(data.ids[i]))]
        own.sort(key=partial(_length_key, data))
        if data.targets is not None:
            targets += [len(data.targets[i]) for i, _ in own]
        lengths += [packing.virtual_tokens + len(read_tokens(data, text)) for text in own]
        if packing.computes_tails:
            tails += [_tail_length(data, text) for text in own]
        texts.append(own)
    packing.layout.begin_batch(lengths, [len(own) for own in texts], device, targets, tails)
    counts = row_counts(packing)
    fleet.set_row_counts(*counts)
    packing.dropout_rng.begin_pass(packing.dropout_rng.seeds, counts)
    return texts, _rows(micro_batches, texts, packing, device)


def row_counts(packing: Packing) -> list[list[int]]:
    """Rows of each run: of tokens, of sequences, and of target tokens or those of tails."""
    layout = packing.layout
    counts = [layout.run_rows(), layout.run_sequences]
    return counts + [own.run_rows() for own in (layout.target, layout.tail) if own is not None]


def read_tokens(data: Encoded, text: Text) -> list[int]:
    """The tokens of a text that a model reads: all but the last one of a completion."""
    example, choice = text
    tokens = data.ids[example][choice]
    return tokens if data.completion_starts is None else tokens[:-1]


def _tail_length(data: Encoded, text: Text) -> int:
    """How many of the last tokens that are read have an output that is read."""
    return 1 if data.completion_starts is None else max(1, data.completion_length(text))


def _length_key(data: Encoded, text: Text) -> tuple[int, int]:
    example, choice = text
    length = len(data.ids[example][choice])
    target = data.target_length(example)
    return -(length + target), -length


def _restore_order(batch: MicroBatch, texts: Sequence[Text], logits: Tensor) -> Tensor:
    """From (texts, labels) in the order of the rows to (examples, labels | choices)."""
    choices = len(batch.data.ids[0])
    row = {text: place for place, text in enumerate(texts)}
    places = [row[i, c] for i in batch.indices for c in range(choices)]
    ordered = logits[to_device(places, logits.device)]
    return ordered if choices == 1 else ordered.view(len(batch.indices), choices)


def _load_cached(
    packing: Packing,
    micro_batches: Sequence[MicroBatch],
    texts: Sequence[Sequence[Text]],
    device: str,
) -> Tensor:
    """Cached inputs of the lowest layer that is computed; (rows, 1, width)."""
    cached = []
    for batch, own in zip(micro_batches, texts, strict=True):
        if own:
            choices = len(batch.data.ids[0])
            rows = packing.activation_caches[batch.data].rows_of(i * choices + c for i, c in own)
            cached.append(rows)
    return to_device(torch.cat(cached), device)


def _rows(
    micro_batches: Sequence[MicroBatch],
    texts: Sequence[Sequence[Text]],
    packing: Packing,
    device: str,
) -> dict[str, Tensor]:
    """Model inputs, one row for each token; (rows, 1)."""
    virtual = packing.virtual_tokens
    ids: list[int] = []
    types: list[int] = []
    for batch, own in zip(micro_batches, texts, strict=True):
        for i, c in own:
            ids += [*[packing.placeholder_id] * virtual, *read_tokens(batch.data, (i, c))]
            if batch.data.type_ids is not None:
                types += [*[0] * virtual, *batch.data.type_ids[i][c]]
    inputs = {"input_ids": _column(ids, device)}
    if types:
        inputs["token_type_ids"] = _column(types, device)
    if packing.passes_position_ids:
        inputs["position_ids"] = packing.layout.position_ids
    return inputs


def _column(values: list[int], device: str) -> Tensor:
    return to_device(np.array(values, dtype=np.int64)[:, None], device)


@dataclass(frozen=True)
class PackedSeq2SeqForward:
    """Runs packed batches of one or several runs through an encoder and a decoder."""

    model: Any
    fleet: Fleet
    compute: Compute
    splitter: Splitter

    def __call__(self, micro_batches: Sequence[MicroBatch]) -> list[TokenStates]:
        """Hidden states of the target tokens of each run, in the order of the packed rows."""
        device = self.compute.device
        texts, source = pack_inputs(micro_batches, self.fleet, device)
        if is_ambiguous(row_counts(packing_of(self.fleet))):
            return _run_one_by_one(self, micro_batches)
        before, targets = [], []
        for batch, own in zip(micro_batches, texts, strict=True):
            if not own:
                targets.append(_no_tokens(device))
                continue
            # Padded, because the model itself knows how targets begin.
            padded = pad_batch(batch.data, [i for i, _ in own], 0)["labels"]
            labels = to_device(padded, device)
            # On the CPU: the number of set elements of a GPU's mask would have to be copied back.
            real = to_device(np.flatnonzero(padded != IGNORE_INDEX), device)
            before.append(shift_right(self.model, labels).flatten().index_select(0, real))
            targets.append(labels.flatten().index_select(0, real))
        hidden: Tensor = self.model.base_model(
            **source, decoder_input_ids=torch.cat(before)[:, None], use_cache=False
        ).last_hidden_state[:, 0]
        pieces = torch.split(hidden, [len(tokens) for tokens in targets])
        return [
            self._states(hidden, tokens, own)
            for hidden, tokens, own in zip(pieces, targets, texts, strict=True)
        ]

    def _states(self, hidden: Tensor, tokens: Tensor, texts: Sequence[Text]) -> TokenStates:
        return TokenStates(hidden, *lm_head(self.model), tokens, texts)


@dataclass(frozen=True)
class PackedCompletionForward:
    """Runs packed batches of one or several runs through a decoder with its LM head."""

    model: Any
    fleet: Fleet
    compute: Compute
    splitter: Splitter

    def __call__(self, micro_batches: Sequence[MicroBatch]) -> list[TokenStates]:
        """Hidden states that predict the completions' tokens, in the order of the packed rows."""
        packing, device = packing_of(self.fleet), self.compute.device
        if not self.model.training and (shared := self._find_prefixes(micro_batches)):
            return self._read_trees(micro_batches, shared)
        texts, inputs = pack_inputs(micro_batches, self.fleet, device)
        if is_ambiguous(row_counts(packing)):
            return _run_one_by_one(self, micro_batches)
        if packing.activation_caches:
            packing.cached_hidden = _load_cached(packing, micro_batches, texts, device)
        hidden: Tensor = self.model.base_model(**inputs, use_cache=False).last_hidden_state[:, 0]
        packing.cached_hidden = None
        layout = packing.layout
        rows = layout if layout.tail is None else layout.tail
        pieces = torch.split(hidden, rows.run_rows())
        lengths, states = iter(rows.lengths), []
        for batch, own, piece in zip(micro_batches, texts, pieces, strict=True):
            computed = [next(lengths) for _ in own]
            states.append(self._states(batch.data, own, piece, computed))
        return states

    def _find_prefixes(self, micro_batches: Sequence[MicroBatch]) -> list[Prefixes] | None:
        """What the texts of each run have in common; None where one's are to be read apart."""
        packing = packing_of(self.fleet)
        prefixes = [own for batch in micro_batches if (own := find_prefixes(batch.data, packing))]
        return prefixes if len(prefixes) == len(micro_batches) else None

    def _read_trees(
        self, micro_batches: Sequence[MicroBatch], prefixes: Sequence[Prefixes]
    ) -> list[TokenStates]:
        """The same states, of texts that share their beginnings; only to evaluate."""
        packing, device = packing_of(self.fleet), self.compute.device
        planted = [
            plant_trees(batch.data, batch.indices, own, packing)
            for batch, own in zip(micro_batches, prefixes, strict=True)
        ]
        trees = [tree for own in planted for tree in own]
        packing.layout.begin_batch(
            [len(tree.tokens) for tree in trees],
            [len(own) for own in planted],
            device,
            tails=[tree.tail for tree in trees] if packing.computes_tails else (),
            trees=[tree.tree for tree in trees],
        )
        counts = row_counts(packing)
        if is_ambiguous(counts):
            return _run_one_by_one(self, micro_batches)
        self.fleet.set_row_counts(*counts)
        packing.dropout_rng.begin_pass(packing.dropout_rng.seeds, counts)
        inputs = {"input_ids": _column([t for tree in trees for t in tree.tokens], device)}
        if packing.passes_position_ids:
            inputs["position_ids"] = packing.layout.position_ids
        hidden: Tensor = self.model.base_model(**inputs, use_cache=False).last_hidden_state[:, 0]
        layout = packing.layout
        rows = layout if layout.tail is None else layout.tail
        pieces, computed = torch.split(hidden, rows.run_rows()), iter(rows.lengths)
        states = []
        for batch, own, piece in zip(micro_batches, planted, pieces, strict=True):
            ends = np.cumsum([next(computed) for _ in own])
            places, labels, texts = [], [], []
            for tree, end in zip(own, ends, strict=True):
                for text, scored in tree.scored.items():
                    example, choice = text
                    ids = batch.data.ids[example][choice]
                    texts.append(text)
                    labels += [ids[place] for place in batch.data.scored_places(text)]
                    places += [int(end) - len(tree.tokens) + row for row in scored]
            chosen = piece.index_select(0, to_device(places, device))
            states.append(self._token_states(chosen, labels, texts))
        return states

    def _token_states(
        self, hidden: Tensor, labels: Sequence[int], texts: Sequence[Text]
    ) -> TokenStates:
        tokens = to_device(labels, self.compute.device)
        weight, bias = lm_head(self.model)
        table = packing_of(self.fleet).word_table
        cap = logit_softcap(self.model)
        return TokenStates(hidden, weight if table is None else table, bias, tokens, texts, cap)

    def _states(
        self, data: Encoded, texts: Sequence[Text], hidden: Tensor, computed: Sequence[int]
    ) -> TokenStates:
        """The states before each scored token, of texts with so many ``computed`` rows."""
        labels: list[int] = []
        rows: list[int] = []
        for text, end in zip(texts, np.cumsum(computed), strict=True):
            example, choice = text
            ids = data.ids[example][choice]
            places = data.scored_places(text)
            labels += [ids[place] for place in places]
            # The last row is that of the last token but one, which predicts the last one.
            rows += [int(end) - len(ids) + place for place in places]
        if rows != list(range(len(hidden))):
            hidden = hidden.index_select(0, to_device(rows, hidden.device))
        return self._token_states(hidden, labels, texts)


def is_ambiguous(row_counts: Sequence[Sequence[int]]) -> bool:
    """Whether two divisions of rows among runs have equal totals, but not equal counts."""
    return any(
        sum(one) == sum(other) and list(one) != list(other)
        for place, one in enumerate(row_counts)
        for other in row_counts[:place]
    )


def _run_one_by_one(forward: Forward, micro_batches: Sequence[MicroBatch]) -> list[TokenStates]:
    """Each run in a pass of its own, because row counts alone tell which run a row is of."""
    states = []
    for run, own in enumerate(micro_batches):
        alone = [one if r == run else MicroBatch(one.data) for r, one in enumerate(micro_batches)]
        if own.indices:
            states.append(forward(alone)[run])
        else:
            device = forward.compute.device
            no_rows = torch.empty(0, 1, device=device)
            states.append(TokenStates(no_rows, no_rows, None, _no_tokens(device), ()))
    return states


def _no_tokens(device: str) -> Tensor:
    return torch.empty(0, dtype=torch.long, device=device)
