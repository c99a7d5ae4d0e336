"""Texts that begin alike, evaluated with what they have in common computed once.

The answers to a question stand behind one prompt, and prompts may stand behind the same solved
examples. A packed pass holds such texts as a tree: what is common to all first, then what is common
to the answers of each example, then the rest of each answer. A token attends to the tokens on the
way to it from the root, and has the position that it has in its text, so its hidden state is that
of the text alone, but for rounding. Only where nothing is learnt: a gradient would be the same, but
dropout would not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paretune.models.packing.layout import Packing, TokenTree
from paretune.objectives.encoding import Encoded, Text

LEAST_SAVED = 0.1
"""Share of the tokens below which texts are read each for itself."""
LEAST_REST = 256
"""Tokens behind a common beginning that one sequence holds at least, before another begins: scores
of tokens that do not see each other are computed and masked."""


@dataclass(frozen=True)
class Prefixes:
    """How many tokens texts have in common at their beginnings.

    Attributes:
        of_all: those of all texts.
        of_example: of each example those of its choices, ``of_all`` included; (examples,).
        rest: of each example the tokens behind ``of_all``, what its choices have in common once;
            (examples,).
        saved: the share of the tokens that need not be read again.
    """

    of_all: int
    of_example: list[int]
    rest: list[int]
    saved: float

    @property
    def rest_of_sequence(self) -> int:
        """Tokens behind ``of_all`` in one sequence; 0: each example has a sequence of its own."""
        return max(LEAST_REST, self.of_all) if self.of_all else 0

    def count_rows(self, virtual_tokens: int) -> list[int]:
        """Rows of each example in a pass, its part of what it has in common with others too."""
        if not self.rest_of_sequence:
            return [virtual_tokens + rest for rest in self.rest]
        front = virtual_tokens + self.of_all
        return [rest + -(-front * rest // self.rest_of_sequence) for rest in self.rest]


@dataclass(frozen=True)
class PackedTree:
    """A sequence of a packed pass: its tokens, and which of its rows predict what is scored.

    Attributes:
        scored: of each text the rows before its scored tokens, counted from the first.
    """

    tokens: list[int]
    tree: TokenTree
    scored: dict[Text, list[int]]

    @property
    def tail(self) -> int:
        """How many of the last rows have an output that is read."""
        return len(self.tokens) - min(min(rows, default=0) for rows in self.scored.values())


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
    of_example = [_common(choices) for choices in texts]
    of_all = 0
    if len(texts) > 1:
        of_all = _common([own[0][:n] for own, n in zip(texts, of_example, strict=True)])
    rest = [
        n - of_all + sum(len(tokens) - n for tokens in own)
        for own, n in zip(texts, of_example, strict=True)
    ]
    prefixes = Prefixes(of_all, of_example, rest, 0.0)
    whole = sum(virtual_tokens + len(tokens) for own in texts for tokens in own)
    saved = 1 - sum(prefixes.count_rows(virtual_tokens)) / max(1, whole)
    return Prefixes(of_all, of_example, rest, saved) if saved >= LEAST_SAVED else None


def plant_trees(
    data: Encoded, indices: Sequence[int], prefixes: Prefixes, packing: Packing
) -> list[PackedTree]:
    """The sequences of some examples, the longest first."""
    groups: list[list[int]] = []
    room = 0
    for i in indices:
        if not groups or room < prefixes.rest[i]:
            groups.append([])
            room = prefixes.rest_of_sequence
        groups[-1].append(i)
        room -= prefixes.rest[i]
    trees = [_plant(data, own, prefixes, packing) for own in groups]
    return sorted(trees, key=lambda one: -len(one.tokens))


def _plant(
    data: Encoded, indices: Sequence[int], prefixes: Prefixes, packing: Packing
) -> PackedTree:
    tokens = [packing.placeholder_id] * packing.virtual_tokens
    depths, nodes, parents = list(range(len(tokens))), [0] * len(tokens), [0]
    scored: dict[Text, list[int]] = {}

    def grow(text: Sequence[int], start: int, end: int, node: int) -> int:
        """Append the tokens of a text from ``start`` to ``end``; the row of the first."""
        first = len(tokens)
        tokens.extend(text[start:end])
        depths.extend(range(packing.virtual_tokens + start, packing.virtual_tokens + end))
        nodes.extend([node] * (end - start))
        return first

    root = grow(data.ids[indices[0]][0], 0, prefixes.of_all, 0)
    for i in indices:
        common = prefixes.of_example[i]
        parents.append(0)
        example = len(parents) - 1
        shared = grow(data.ids[i][0], prefixes.of_all, common, example)
        for choice, text in enumerate(data.ids[i]):
            parents.append(example)
            own = grow(text, common, len(text) - 1, len(parents) - 1)
            # The row of each token of this text that is read.
            rows = [
                *range(root, root + prefixes.of_all),
                *range(shared, shared + common - prefixes.of_all),
                *range(own, own + len(text) - 1 - common),
            ]
            scored[i, choice] = [rows[place - 1] for place in data.scored_places((i, choice))]
    tree = TokenTree(np.array(depths), np.array(nodes), _find_ancestors(parents))
    return PackedTree(tokens, tree, scored)


def _find_ancestors(parents: Sequence[int]) -> NDArray[np.bool_]:
    """Whether a node is another one or above it, (nodes, nodes); the first is the root."""
    above = np.eye(len(parents), dtype=bool)
    for node, parent in enumerate(parents):
        above[node] |= above[parent]
    return above


def _common(texts: Sequence[Sequence[int]]) -> int:
    """With how many equal tokens all texts begin."""
    first = min(texts, key=len)
    for place, token in enumerate(first):
        if any(text[place] != token for text in texts):
            return place
    return len(first)
