"""Solved examples for prompts (few-shot), drawn from the training part by a run's seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paretune.data.example import Example
from paretune.study import Label, derive_seed


def draw_shots(train: Sequence[Example], count: int, seed: int) -> list[Example]:
    """Some examples, at most all of them, the labels in turn; in the order in which they are shown.

    As EuroEval draws them for classification: the labels in a random order, of each an example at
    random, again and again. So a rare label is seen too. Of examples without labels, any.
    """
    generator = np.random.Generator(np.random.PCG64(derive_seed(seed, "shots")))
    by_label: dict[Label | None, list[Example]] = {}
    for place in generator.permutation(len(train)):
        by_label.setdefault(train[place].label, []).append(train[place])
    known = sorted(by_label, key=lambda label: -1 if label is None else label)
    turns = [by_label[known[place]] for place in generator.permutation(len(known))]
    shots: list[Example] = []
    while len(shots) < min(count, len(train)):
        for waiting in turns:
            if waiting and len(shots) < count:
                shots.append(waiting.pop())
    return shots
