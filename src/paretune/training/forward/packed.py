"""Packed forward passes: no padding is computed.

Each row of a packed batch is one token; the texts follow one another, the longest first, so that
texts of similar length are computed together, and attention knows where each begins
(:mod:`paretune.models.packing`).

The answers to a question stand behind one prompt, and prompts may stand behind the same solved
examples. In evaluation such texts are one sequence, a tree, in which what they have in
common is computed once: first what is common to all, then what is common to the answers of each
example, then the rest of each answer. A token attends to the tokens on the way to it from the root,
and has the position that it has in its text, so its hidden state is that of the text alone, but for
rounding. In training each text is read for itself: a gradient would be the same, dropout would not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paretune.device_transfer import to_device
from paretune.models.packing.layout import Packing, TokenTree
from paretune.models.pass_context import PassContext
from paretune.models.structure.heads import lm_head, logit_softcap, shift_right
from paretune.objectives.encoding import IGNORE_INDEX, Encoded, Text, pad_batch
from paretune.objectives.token_outputs import TokenStates
from paretune.training.forward.passes import Forward, MicroBatch

LEAST_SAVED = 0.1
"""Share of the tokens below which texts are read each for itself."""
LEAST_REST = 256
"""Tokens behind a common beginning that one sequence holds at least, before another begins: scores
of tokens that do not see each other are computed and masked."""


@dataclass(frozen=True)
class PackedSequence:
    """Rows of a packed pass that attend to each other.

    Attributes:
        tokens: what the model reads, virtual tokens included; (rows,).
        types: their token types, where the model has such; (rows,) or empty.
        target_length: tokens of the target; 0 without one.
        tail: how many of the last rows have an output that is read.
        scored: of each text, the rows before its scored tokens, counted from the first; none where
            the output of the text itself is read.
        tree: where several texts share a beginning.
    """

    tokens: list[int]
    tail: int
    scored: dict[Text, list[int]]
    types: Sequence[int] = ()
    target_length: int = 0
    tree: TokenTree | None = None


@dataclass(frozen=True)
class Prefixes:
    """How many tokens texts have in common at their beginnings.

    Attributes:
        of_all: those of all texts.
        of_example: of each example those of its choices, ``of_all`` included; (examples,).
        rest: of each example the tokens behind ``of_all``, what its choices have in common once;
            (examples,).
    """

    of_all: int
    of_example: list[int]
    rest: list[int]

    @property
    def rest_of_sequence(self) -> int:
        """Tokens behind ``of_all`` in one sequence; 0: each example has a sequence of its own."""
        return max(LEAST_REST, self.of_all) if self.of_all else 0

    def count_rows(self, virtual_tokens: int) -> list[int]:
        """Rows of each example in a pass, its part of what it shares with others too."""
        if not self.rest_of_sequence:
            return [virtual_tokens + rest for rest in self.rest]
        front = virtual_tokens + self.of_all
        return [rest + -(-front * rest // self.rest_of_sequence) for rest in self.rest]


def arrange_sequences(batch: MicroBatch, packing: Packing, *, share: bool) -> list[PackedSequence]:
    """The sequences of a pass, the longest first, targets included.

    ``share``: texts that begin alike are one sequence, where that pays.
    """
    prefixes = find_prefixes(batch.data, packing) if share else None
    if prefixes is not None:
        return plant_trees(batch.data, batch.indices, prefixes, packing)
    data, virtual = batch.data, packing.virtual_tokens

    def rank(text: Text) -> tuple[int, int]:
        length = len(data.ids[text[0]][text[1]])
        return -(length + data.target_length(text[0])), -length

    sequences = []
    for text in sorted(((i, c) for i in batch.indices for c in range(len(data.ids[i]))), key=rank):
        read = data.ids[text[0]][text[1]]
        scored, tail, types = [], 1, list[int]()
        if data.completion_starts is not None:
            read = read[:-1]  # the last token is scored, but predicts none
            scored = [virtual + place - 1 for place in data.scored_places(text)]
            tail = max(1, data.completion_length(text))
        if data.word_places is not None:
            scored = [virtual + place for place in data.word_places[text[0]]]
        if data.type_ids is not None:
            types = [0] * virtual + data.type_ids[text[0]][text[1]]
        tokens = [packing.placeholder_id] * virtual + read
        target = data.target_length(text[0])
        sequences.append(PackedSequence(tokens, tail, {text: scored}, types, target))
    return sequences


def find_prefixes(data: Encoded, packing: Packing) -> Prefixes | None:
    """The common beginnings of the texts; None where each text is read for itself."""
    if data.completion_starts is None or not packing.shares_prefixes or packing.activation_caches:
        return None
    if data in packing.prefixes:
        prefixes: Prefixes | None = packing.prefixes[data]
        return prefixes
    texts = [[tokens[:-1] for tokens in choices] for choices in data.ids]
    of_example = [_count_common(choices) for choices in texts]
    of_all = 0
    if len(texts) > 1:
        pairs = zip(texts, of_example, strict=True)
        of_all = _count_common([choices[0][:common] for choices, common in pairs])
    rest = [
        common - of_all + sum(len(tokens) - common for tokens in choices)
        for choices, common in zip(texts, of_example, strict=True)
    ]
    prefixes = Prefixes(of_all, of_example, rest)
    virtual = packing.virtual_tokens
    whole = sum(virtual + len(tokens) for choices in texts for tokens in choices)
    saved = 1 - sum(prefixes.count_rows(virtual)) / max(1, whole)
    return packing.prefixes.setdefault(data, prefixes if saved >= LEAST_SAVED else None)


def _count_common(texts: Sequence[Sequence[int]]) -> int:
    """How many equal tokens all texts begin with."""
    first = min(texts, key=len)
    for place, token in enumerate(first):
        if any(text[place] != token for text in texts):
            return place
    return len(first)


def plant_trees(
    data: Encoded, indices: Sequence[int], prefixes: Prefixes, packing: Packing
) -> list[PackedSequence]:
    """The sequences of some examples, the longest first."""
    groups: list[list[int]] = []
    room = 0
    for i in indices:
        if not groups or room < prefixes.rest[i]:
            groups.append([])
            room = prefixes.rest_of_sequence
        groups[-1].append(i)
        room -= prefixes.rest[i]
    trees = [_plant(data, group, prefixes, packing) for group in groups]
    return sorted(trees, key=lambda tree: -len(tree.tokens))


def _plant(
    data: Encoded, indices: Sequence[int], prefixes: Prefixes, packing: Packing
) -> PackedSequence:
    tokens = [packing.placeholder_id] * packing.virtual_tokens
    depths, nodes, parents = list(range(len(tokens))), [0] * len(tokens), [0]
    scored: dict[Text, list[int]] = {}

    def grow(text: Sequence[int], start: int, end: int, node: int) -> range:
        """Append the tokens of a text from ``start`` to ``end``; their rows."""
        first = len(tokens)
        tokens.extend(text[start:end])
        depths.extend(range(packing.virtual_tokens + start, packing.virtual_tokens + end))
        nodes.extend([node] * (end - start))
        return range(first, len(tokens))

    root = grow(data.ids[indices[0]][0], 0, prefixes.of_all, 0)
    for i in indices:
        common = prefixes.of_example[i]
        parents.append(0)
        example = len(parents) - 1
        shared = grow(data.ids[i][0], prefixes.of_all, common, example)
        for choice, text in enumerate(data.ids[i]):
            parents.append(example)
            rows = [*root, *shared, *grow(text, common, len(text) - 1, len(parents) - 1)]
            scored[i, choice] = [rows[place - 1] for place in data.scored_places((i, choice))]
    ancestors = np.eye(len(parents), dtype=bool)  # the first node is the root
    for node, parent in enumerate(parents):
        ancestors[node] |= ancestors[parent]
    tail = len(tokens) - min(min(rows, default=0) for rows in scored.values())
    tree = TokenTree(np.array(depths), np.array(nodes), ancestors)
    return PackedSequence(tokens, tail, scored, tree=tree)


class PackedForward(Forward):
    """Runs packed batches through a model.

    It reads the logits of a classifier; subclasses read hidden states of tokens.
    """

    def __call__(self, batch: MicroBatch) -> Any:
        """The model's outputs for the examples."""
        packing = packing_of(self.context)
        sequences = arrange_sequences(batch, packing, share=not self.model.training)
        # Where there is no backward pass, passes are large and few.
        fills = torch.is_grad_enabled() and not packing.activation_caches
        inputs = begin_pass(sequences, self.context, self.compute.device, fills=fills)
        if packing.activation_caches:  # inputs of the lowest layer that is computed
            choices = len(batch.data.ids[0])
            rows = [i * choices + c for i, c in _list_scored(sequences)]
            cached = packing.activation_caches[batch.data].rows_of(rows)
            packing.cached_hidden = to_device(cached, self.compute.device)
        outputs = self._read(inputs, batch, sequences)
        packing.cached_hidden = None
        return outputs

    def _read(
        self, inputs: dict[str, Tensor], batch: MicroBatch, sequences: Sequence[PackedSequence]
    ) -> Any:
        """Logits: (examples, labels), (examples, choices) or (words, labels)."""
        packed: Tensor = self.model(**inputs).logits
        of_words, begin = packed.ndim == 3, 0
        choices, rows = len(batch.data.ids[0]), dict[Text, list[int]]()
        for sequence in sequences:  # each has one text
            for text, scored in sequence.scored.items():
                rows[text] = [begin + row for row in scored] if of_words else [begin]
            begin += len(sequence.tokens) if of_words else 1
        places = [row for i in batch.indices for c in range(choices) for row in rows[i, c]]
        ordered = packed.flatten(0, -2).index_select(0, to_device(places, packed.device))
        return ordered if choices == 1 else ordered.view(len(batch.indices), choices)


class PackedSeq2SeqForward(PackedForward):
    """Runs packed batches through an encoder and a decoder."""

    def _read(
        self, inputs: dict[str, Tensor], batch: MicroBatch, sequences: Sequence[PackedSequence]
    ) -> Any:
        """Hidden states of the target tokens, in the order of the packed rows."""
        device, texts = self.compute.device, _list_scored(sequences)
        # Padded, because the model itself knows how targets begin.
        padded = pad_batch(batch.data, [i for i, _ in texts], 0)["labels"]
        labels = to_device(padded, device)
        # The CPU does it: the number of set elements of a GPU's mask would have to be copied back.
        real = to_device(np.flatnonzero(padded != IGNORE_INDEX), device)
        before = shift_right(self.model, labels).flatten().index_select(0, real)
        targets = labels.flatten().index_select(0, real)
        layout = packing_of(self.context).layout.target
        assert layout is not None  # noqa: S101  (a translation's batch has targets)
        filled = torch.cat([before, before[:1].expand(layout.filler_rows)])
        hidden: Tensor = self.model.base_model(
            **inputs, decoder_input_ids=filled[:, None], use_cache=False
        ).last_hidden_state[:, 0]
        return TokenStates(hidden[: len(before)], *lm_head(self.model), targets, texts)


class PackedCompletionForward(PackedForward):
    """Runs packed batches through a decoder with its LM head."""

    def _read(
        self, inputs: dict[str, Tensor], batch: MicroBatch, sequences: Sequence[PackedSequence]
    ) -> Any:
        """Hidden states that predict the completions' tokens, in the order of the packed rows."""
        hidden: Tensor = self.model.base_model(**inputs, use_cache=False).last_hidden_state[:, 0]
        packing = packing_of(self.context)
        layout = packing.layout.tail or packing.layout
        weight, bias = lm_head(self.model)
        weight = weight if packing.word_table is None else packing.word_table
        labels: list[int] = []
        rows: list[int] = []
        end = 0
        for sequence, length in zip(sequences, layout.lengths, strict=True):
            end += length
            for (example, choice), scored in sequence.scored.items():
                ids = batch.data.ids[example][choice]
                labels += [ids[p] for p in batch.data.scored_places((example, choice))]
                # Computed are the last rows of each sequence.
                rows += [end - len(sequence.tokens) + row for row in scored]
        if rows != list(range(len(hidden))):
            hidden = hidden.index_select(0, to_device(rows, hidden.device))
        tokens, cap = to_device(labels, self.compute.device), logit_softcap(self.model)
        return TokenStates(hidden, weight, bias, tokens, _list_scored(sequences), cap)


def packing_of(context: PassContext) -> Packing:
    """The packing of a context with packed batches."""
    assert context.packing is not None  # noqa: S101  (made with a packed model)
    return context.packing


def begin_pass(
    sequences: Sequence[PackedSequence], context: PassContext, device: str, *, fills: bool = False
) -> dict[str, Tensor]:
    """Begin a packed pass of these sequences; the model's inputs, (rows, 1) each.

    A sequence-to-sequence model gets those of the encoder.

    Args:
        fills: rows are filled up to a multiple of ``Packing.row_multiple``.
    """
    packing = packing_of(context)
    targets = [sequence.target_length for sequence in sequences]
    packing.layout.begin_batch(
        [len(sequence.tokens) for sequence in sequences],
        device,
        targets=targets if any(targets) else (),
        tails=[sequence.tail for sequence in sequences] if packing.computes_tails else (),
        trees=[sequence.tree for sequence in sequences if sequence.tree is not None],
        row_multiple=packing.row_multiple if fills else 1,
    )
    packing.dropout_rng.begin_pass(packing.dropout_rng.seed)
    # A token that occurs: only such have a row where the words that occur are trained.
    filler = [sequences[0].tokens[0]] * packing.layout.filler_rows
    inputs = {"input_ids": _to_column([*(s.tokens for s in sequences), filler], device)}
    if any(sequence.types for sequence in sequences):
        types = [0] * packing.layout.filler_rows
        inputs["token_type_ids"] = _to_column([*(s.types for s in sequences), types], device)
    if packing.passes_position_ids:
        inputs["position_ids"] = packing.layout.position_ids
    return inputs


def _list_scored(sequences: Sequence[PackedSequence]) -> list[Text]:
    return [text for sequence in sequences for text in sequence.scored]


def _to_column(values: Sequence[Sequence[int]], device: str) -> Tensor:
    column = np.fromiter(chain.from_iterable(values), dtype=np.int64)
    return to_device(column[:, None], device)
