"""The prompt of a task: what a language model is told of an example, and the texts of its answers.

Words are joined as lm-evaluation-harness joins them (``target_delimiter``, ``fewshot_delimiter``):
the prompt, a delimiter, the answer; solved examples stand before it, with an empty line between.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.errors import StudyError
from paretune.study import Label, LengthNormalisation, TaskSpec, derive_seed

if TYPE_CHECKING:
    from paretune.data.example import Example

SHOT_DELIMITER = "\n\n"
"""Between solved examples, and between the last of them and the question."""
_PLACEHOLDER = re.compile(r"\{(text_pair|text)\}")
_ANSWER = {"sl": "Odgovor:", "en": "Answer:"}


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """How a language model is asked.

    Attributes:
        template: with ``{text}`` and ``{text_pair}``, an example's texts.
        label_texts: the answer for each label; none where an example has choices, which are the
            answers themselves, or a text.
        delimiter: between prompt and answer.
        length_normalisation: what the log-likelihood of an answer is divided by: its length in
            characters (``acc_norm`` of lm-evaluation-harness) or UTF-8 bytes (``acc_bytes``).
        connectives: questions at the end of a text, each with what joins a choice to the text in
            its place (`` because``): the text loses its last character, the full stop, and the
            choice begins with a small letter, as lm-evaluation-harness asks COPA.
        shots: solved examples, each a prompt with its answer.
        max_shot_tokens: all solved examples and the question have at most so many tokens together;
            the first ones are left out until they have. None: there is no limit.
        learns_every_answer: whether training learns every answer of a conversation, not only the
            last one.
    """

    template: str = "{text}"
    label_texts: tuple[str, ...] = ()
    delimiter: str = " "
    length_normalisation: LengthNormalisation = "none"
    connectives: tuple[tuple[str, str], ...] = ()
    shots: tuple[str, ...] = ()
    max_shot_tokens: int | None = None
    learns_every_answer: bool = False

    @property
    def names_pair(self) -> bool:
        """Whether it holds the second text."""
        return "{text_pair}" in self.template

    def render(self, text: str, text_pair: str | None) -> str:
        """The prompt of one example, without solved ones."""
        for question, conjunction in self.connectives:
            if text.endswith(question):
                text = text.removesuffix(question).strip()[:-1] + conjunction
                break
        values = {"text": text, "text_pair": text_pair or ""}
        return _PLACEHOLDER.sub(lambda match: values[match.group(1)], self.template)

    def join_shots(self) -> str:
        """What stands before a prompt: solved examples; nothing where there are none."""
        return "".join(shot + SHOT_DELIMITER for shot in self.shots)

    def last_shots(self, count: int) -> Prompt:
        """The same prompt after the last solved examples."""
        return replace(self, shots=self.shots[len(self.shots) - count :])

    def fit_shots(
        self, examples: int, measure: Callable[[Sequence[int], Sequence[int]], list[int]]
    ) -> list[int]:
        """How many solved examples, counted from the last, stand before each of some examples.

        Args:
            measure: tokens of examples, given by number, each after so many solved ones.
        """
        shots, limit = [len(self.shots)] * examples, self.max_shot_tokens
        long = list(range(examples)) if self.shots else []
        while long:
            sizes = measure(long, [shots[i] for i in long])
            long = [
                i for i, size in zip(long, sizes, strict=True) if limit is not None and size > limit
            ]
            for i in long:
                shots[i] -= 1
            long = [i for i in long if shots[i]]
        return shots

    def answers(self, example: Example) -> list[str]:
        """The text of every possible answer, without the delimiter: of its labels or choices."""
        if self.label_texts:
            return list(self.label_texts)
        choices = [choice or "" for _, choice in example.segments]
        if any(example.segments[0][0].endswith(question) for question, _ in self.connectives):
            choices = [choice[:1].lower() + choice[1:] for choice in choices]
        return choices

    def solution(self, example: Example) -> str:
        """The text of the right answer: of its label or choice, or its target."""
        if example.label is None:
            return example.target or ""
        return self.answers(example)[int(example.label)]

    def divisors(self, answers: Sequence[str]) -> list[float]:
        """What the log-likelihood of each answer is divided by."""
        if self.length_normalisation == "none":
            return [1.0] * len(answers)
        as_bytes = self.length_normalisation == "bytes"
        return [float(len(answer.encode() if as_bytes else answer)) for answer in answers]

    def with_shots(self, solved: Sequence[Example], max_tokens: int | None = None) -> Prompt:
        """The same prompt after solved examples."""
        shots = tuple(
            self.render(*example.segments[0]) + self.delimiter + self.solution(example)
            for example in solved
        )
        return replace(self, shots=shots, max_shot_tokens=max_tokens)

    def canonical_form(self) -> dict[str, Any]:
        """Plain values that identify it; solved examples follow from a run's seed."""
        form = asdict(self)
        form.pop("shots")
        form.pop("max_shot_tokens")
        if not self.learns_every_answer:
            form.pop("learns_every_answer")
        return form


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

    As EuroEval draws them for classification: the labels in a random order, of each an example at
    random, again and again. So a rare label is seen too. Of examples without labels, any.
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
