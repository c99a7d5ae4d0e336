"""Packed forward passes: no padding is computed.

Each row of a packed batch is one token; the texts of all runs follow one another, and attention
knows where each begins (:mod:`paretune.models.packing`). Run 0 comes first, and of each run the
longest text, so that texts of similar length are computed together.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paretune.device_transfer import to_device
from paretune.methods.core.run_axis import Fleet
from paretune.models.packing.layout import Packing
from paretune.models.structure.heads import lm_head, logit_softcap, shift_right
from paretune.objectives.encoding import IGNORE_INDEX, Text, pad_batch
from paretune.objectives.token_outputs import TokenStates
from paretune.training.forward.micro_batch import Forward, MicroBatch
from paretune.training.forward.sequences import PackedSequence, arrange_sequences


class PackedForward(Forward):
    """Runs packed batches of one or several runs through a model.

    What is read of it is the logits of a classifier; subclasses read hidden states of tokens.
    """

    def __call__(self, micro_batches: Sequence[MicroBatch]) -> list[Any]:
        """The model's outputs for the examples of each run."""
        packing = packing_of(self.fleet)
        sequences = arrange_sequences(micro_batches, packing, share=not self.model.training)
        inputs = begin_pass(sequences, self.fleet, self.compute.device)
        if is_ambiguous(row_counts(packing)):
            return self._run_one_by_one(micro_batches)
        if packing.activation_caches:
            packing.cached_hidden = _load_cached(
                packing, micro_batches, sequences, self.compute.device
            )
        outputs = self._read(inputs, micro_batches, sequences)
        packing.cached_hidden = None
        return outputs

    def _read(
        self,
        inputs: dict[str, Tensor],
        micro_batches: Sequence[MicroBatch],
        sequences: Sequence[Sequence[PackedSequence]],
    ) -> list[Any]:
        """Logits of each run's examples: (examples, labels), or (examples, choices)."""
        packed: Tensor = self.model(**inputs).logits
        logits = []
        pieces = torch.split(packed, [len(of_run) for of_run in sequences])
        for batch, of_run, piece in zip(micro_batches, sequences, pieces, strict=True):
            choices = len(batch.data.ids[0])
            rows = {text: row for row, text in enumerate(_list_scored(of_run))}
            places = [rows[i, c] for i in batch.indices for c in range(choices)]
            ordered = piece[to_device(places, piece.device)]
            logits.append(ordered if choices == 1 else ordered.view(len(batch.indices), choices))
        return logits

    def _run_one_by_one(self, micro_batches: Sequence[MicroBatch]) -> list[TokenStates]:
        """Each run in a pass of its own, because row counts alone tell which run a row is of."""
        states: list[TokenStates] = []
        for run, batch in enumerate(micro_batches):
            alone = [MicroBatch(absent.data) for absent in micro_batches]
            alone[run] = batch
            if batch.indices:
                states += self(alone)[run : run + 1]
            else:
                no_rows = torch.empty(0, 1, device=self.compute.device)
                states.append(TokenStates(no_rows, no_rows, None, self._no_tokens(), ()))
        return states

    def _no_tokens(self) -> Tensor:
        return torch.empty(0, dtype=torch.long, device=self.compute.device)


class PackedSeq2SeqForward(PackedForward):
    """Runs packed batches of one or several runs through an encoder and a decoder."""

    def _read(
        self,
        inputs: dict[str, Tensor],
        micro_batches: Sequence[MicroBatch],
        sequences: Sequence[Sequence[PackedSequence]],
    ) -> list[Any]:
        """Hidden states of the target tokens of each run, in the order of the packed rows."""
        device, texts = self.compute.device, [_list_scored(of_run) for of_run in sequences]
        before, targets = [], []
        for batch, of_run in zip(micro_batches, texts, strict=True):
            if not of_run:
                targets.append(self._no_tokens())
                continue
            # Padded, because the model itself knows how targets begin.
            padded = pad_batch(batch.data, [i for i, _ in of_run], 0)["labels"]
            labels = to_device(padded, device)
            # On the CPU: the number of set elements of a GPU's mask would have to be copied back.
            real = to_device(np.flatnonzero(padded != IGNORE_INDEX), device)
            before.append(shift_right(self.model, labels).flatten().index_select(0, real))
            targets.append(labels.flatten().index_select(0, real))
        hidden: Tensor = self.model.base_model(
            **inputs, decoder_input_ids=torch.cat(before)[:, None], use_cache=False
        ).last_hidden_state[:, 0]
        pieces = torch.split(hidden, [len(tokens) for tokens in targets])
        return [
            TokenStates(piece, *lm_head(self.model), tokens, of_run)
            for piece, tokens, of_run in zip(pieces, targets, texts, strict=True)
        ]


class PackedCompletionForward(PackedForward):
    """Runs packed batches of one or several runs through a decoder with its LM head."""

    def _read(
        self,
        inputs: dict[str, Tensor],
        micro_batches: Sequence[MicroBatch],
        sequences: Sequence[Sequence[PackedSequence]],
    ) -> list[Any]:
        """Hidden states that predict the completions' tokens, in the order of the packed rows."""
        hidden: Tensor = self.model.base_model(**inputs, use_cache=False).last_hidden_state[:, 0]
        packing = packing_of(self.fleet)
        layout = packing.layout.tail or packing.layout
        pieces, lengths = torch.split(hidden, layout.run_rows()), iter(layout.lengths)
        weight, bias = lm_head(self.model)
        weight = weight if packing.word_table is None else packing.word_table
        states = []
        for batch, of_run, piece in zip(micro_batches, sequences, pieces, strict=True):
            labels: list[int] = []
            rows: list[int] = []
            end = 0
            for sequence in of_run:
                end += next(lengths)
                for (example, choice), scored in sequence.scored.items():
                    ids = batch.data.ids[example][choice]
                    labels += [ids[p] for p in batch.data.scored_places((example, choice))]
                    # Computed are the last rows of each sequence.
                    rows += [end - len(sequence.tokens) + row for row in scored]
            if rows != list(range(len(piece))):
                piece = piece.index_select(0, to_device(rows, piece.device))
            tokens, cap = to_device(labels, self.compute.device), logit_softcap(self.model)
            states.append(TokenStates(piece, weight, bias, tokens, _list_scored(of_run), cap))
        return states


def packing_of(fleet: Fleet) -> Packing:
    """The packing of a fleet with packed batches."""
    assert fleet.packing is not None  # noqa: S101  (made with a packed model)
    return fleet.packing


def begin_pass(
    sequences: Sequence[Sequence[PackedSequence]], fleet: Fleet, device: str
) -> dict[str, Tensor]:
    """Begin a packed pass of the sequences of each run; the model's inputs, (rows, 1) each.

    Of sequence-to-sequence they are those of the encoder.
    """
    packing, every = packing_of(fleet), [*chain.from_iterable(sequences)]
    packing.layout.begin_batch(
        [len(sequence.tokens) for sequence in every],
        [len(of_run) for of_run in sequences],
        device,
        targets=[s.target_length for s in every] if any(s.target_length for s in every) else (),
        tails=[sequence.tail for sequence in every] if packing.computes_tails else (),
        trees=[sequence.tree for sequence in every if sequence.tree is not None],
    )
    counts = row_counts(packing)
    fleet.set_row_counts(*counts)
    packing.dropout_rng.begin_pass(packing.dropout_rng.seeds, counts)
    inputs = {"input_ids": _to_column([s.tokens for s in every], device)}
    if any(sequence.types for sequence in every):
        inputs["token_type_ids"] = _to_column([s.types for s in every], device)
    if packing.passes_position_ids:
        inputs["position_ids"] = packing.layout.position_ids
    return inputs


def row_counts(packing: Packing) -> list[list[int]]:
    """Rows of each run: of tokens, of sequences, and of target tokens or those of tails."""
    layout = packing.layout
    parts = [part.run_rows() for part in (layout.target, layout.tail) if part is not None]
    return [layout.run_rows(), layout.run_sequences, *parts]


def is_ambiguous(row_counts: Sequence[Sequence[int]]) -> bool:
    """Whether two divisions of rows among runs have equal totals, but not equal counts."""
    return any(
        sum(counts) == sum(earlier) and list(counts) != list(earlier)
        for place, counts in enumerate(row_counts)
        for earlier in row_counts[:place]
    )


def _load_cached(
    packing: Packing,
    micro_batches: Sequence[MicroBatch],
    sequences: Sequence[Sequence[PackedSequence]],
    device: str,
) -> Tensor:
    """Cached inputs of the lowest layer that is computed; (rows, 1, width)."""
    cached = []
    for batch, of_run in zip(micro_batches, sequences, strict=True):
        if of_run:
            choices, texts = len(batch.data.ids[0]), _list_scored(of_run)
            rows = packing.activation_caches[batch.data].rows_of(i * choices + c for i, c in texts)
            cached.append(rows)
    return to_device(torch.cat(cached), device)


def _list_scored(sequences: Sequence[PackedSequence]) -> list[Text]:
    return [text for sequence in sequences for text in sequence.scored]


def _to_column(values: Sequence[Sequence[int]], device: str) -> Tensor:
    column = np.fromiter(chain.from_iterable(values), dtype=np.int64)
    return to_device(column[:, None], device)
