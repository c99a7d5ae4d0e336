"""Chooses the prompt of a dataset, and the solved examples in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from paretune.answers import Label
from paretune.errors import StudyError
from paretune.objectives.example import Example
from paretune.objectives.prompt import Prompt
from paretune.study import TaskSpec, derive_seed

_ANSWER = {"sl": "Odgovor:", "en": "Answer:"}


def choose_prompt(
    spec: TaskSpec,
    task_prompt: Prompt | None,
    examples: Sequence[Example],
    labels: Sequence[str],
    language: str | None,
) -> Prompt:
    """The prompt of a dataset: the study's where it gives one, else the task's, else a plain one.

    Args:
        task_prompt: None where it has none for these texts.
        labels: their names, which are the answers where nothing else is; none where the examples
            have choices, or no labels.

    Raises:
        StudyError: it names a second text and there is none, or there are more or fewer
            ``label_texts`` than labels.
    """
    first = examples[0].segments if examples else (("", None),)
    has_choices, has_pair = len(first) > 1, first[0][1] is not None
    if task_prompt is None:
        answer = _ANSWER.get(language or "", _ANSWER["en"])
        texts = "{text}\n{text_pair}" if has_pair else "{text}"
        task_prompt = Prompt(
            template="{text}" if has_choices else f"{texts}\n{answer}",
            label_texts=() if has_choices else tuple(labels),
        )
    changes: dict[str, Any] = {}
    if spec.prompt is not None:
        changes |= {"template": spec.prompt, "connectives": ()}
    if spec.label_texts is not None:
        changes["label_texts"] = spec.label_texts
    if spec.length_normalisation is not None:
        changes["length_normalisation"] = spec.length_normalisation
    prompt = replace(task_prompt, **changes)
    label_texts = spec.label_texts
    what = remedy = ""
    if prompt.names_pair and has_choices:
        what = "{text_pair} is the choice, which the model is to find."
        remedy = "Remove it from the prompt: each choice is put behind the prompt."
    elif prompt.names_pair and not has_pair:
        what = "its prompt holds {text_pair}, and its examples have one text."
        remedy = "Name text_pair."
    elif label_texts is not None and (has_choices or not labels):
        what, remedy = "label_texts go with labels, and it has none.", "Remove label_texts."
    elif label_texts is not None and len(label_texts) != len(labels):
        what = f"{len(label_texts)} label_texts for {len(labels)} labels."
        remedy = f"Give one for each of {', '.join(labels)}, in this order."
    if what:
        raise StudyError(what, where=f"task {spec.key}", remedy=remedy)
    return prompt


def draw_shots(train: Sequence[Example], count: int, seed: int) -> list[Example]:
    """Some examples, at most all of them, the labels in turn; in the order in which they are shown.

    They are drawn as EuroEval draws them for classification: the labels come in a random order,
    each with a random example, again and again, so that a rare label is seen, too. If examples have
    no labels, any are drawn.
    """
    generator = np.random.Generator(np.random.PCG64(derive_seed(seed, "shots")))
    by_label: dict[Label | None, list[Example]] = {}
    for place in generator.permutation(len(train)):
        by_label.setdefault(train[place].label, []).append(train[place])
    labels = sorted(by_label, key=lambda label: -1 if label is None else label)
    turns = [by_label[labels[place]] for place in generator.permutation(len(labels))]
    shots: list[Example] = []
    while len(shots) < min(count, len(train)):
        for waiting in turns:
            if waiting and len(shots) < count:
                shots.append(waiting.pop())
    return shots
