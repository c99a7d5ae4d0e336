"""What a packed pass reads: a sequence for each text, or a tree of texts that begin alike.

The answers to a question stand behind one prompt, and prompts may stand behind the same solved
examples. While runs are evaluated, such texts are one sequence, in which what they have in common
is computed once: first what is common to all, then what is common to the answers of each example,
then the rest of each answer. A token attends to the tokens on the way to it from the root, and has
the position that it has in its text, so its hidden state is that of the text alone, but for
rounding. In training each text is read for itself: a gradient would be the same, dropout would not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paretune.models.packing.layout import Packing, TokenTree
from paretune.objectives.encoding import Encoded, Text
from paretune.training.forward.micro_batch import MicroBatch

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


def arrange_sequences(
    micro_batches: Sequence[MicroBatch], packing: Packing, *, share: bool
) -> list[list[PackedSequence]]:
    """The sequences of each run, the longest first, targets included.

    ``share``: texts that begin alike are one sequence, where that pays for every run.
    """
    prefixes = [find_prefixes(b.data, packing) if share else None for b in micro_batches]
    if not all(prefixes):
        return [_list_texts(batch, packing) for batch in micro_batches]
    return [
        plant_trees(batch.data, batch.indices, common, packing)
        for batch, common in zip(micro_batches, prefixes, strict=True)
        if common is not None
    ]


def read_tokens(data: Encoded, text: Text) -> list[int]:
    """The tokens of a text that a model reads: all but the last one of a completion.

    That one is scored, but predicts none.
    """
    example, choice = text
    tokens = data.ids[example][choice]
    return tokens if data.completion_starts is None else tokens[:-1]


def _list_texts(batch: MicroBatch, packing: Packing) -> list[PackedSequence]:
    """Each text for itself."""
    data, virtual = batch.data, packing.virtual_tokens

    def rank(text: Text) -> tuple[int, int]:
        length = len(data.ids[text[0]][text[1]])
        return -(length + data.target_length(text[0])), -length

    sequences = []
    for text in sorted(((i, c) for i in batch.indices for c in range(len(data.ids[i]))), key=rank):
        scored, tail, types = [], 1, list[int]()
        if data.completion_starts is not None:
            scored = [virtual + place - 1 for place in data.scored_places(text)]
            tail = max(1, data.completion_length(text))
        if data.type_ids is not None:
            types = [0] * virtual + data.type_ids[text[0]][text[1]]
        tokens = [packing.placeholder_id] * virtual + read_tokens(data, text)
        target = data.target_length(text[0])
        sequences.append(PackedSequence(tokens, tail, {text: scored}, types, target))
    return sequences


def find_prefixes(data: Encoded, packing: Packing) -> Prefixes | None:
    """What the texts have in common; None where they are to be read each for itself."""
    if data.completion_starts is None or not packing.shares_prefixes or packing.activation_caches:
        return None
    if data not in packing.prefixes:
        packing.prefixes[data] = _find_prefixes(data, packing.virtual_tokens)
    prefixes: Prefixes | None = packing.prefixes[data]
    return prefixes


def _find_prefixes(data: Encoded, virtual_tokens: int) -> Prefixes | None:
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
    whole = sum(virtual_tokens + len(tokens) for choices in texts for tokens in choices)
    saved = 1 - sum(prefixes.count_rows(virtual_tokens)) / max(1, whole)
    return prefixes if saved >= LEAST_SAVED else None


def _count_common(texts: Sequence[Sequence[int]]) -> int:
    """With how many equal tokens all texts begin."""
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
