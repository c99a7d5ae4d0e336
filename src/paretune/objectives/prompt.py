"""The prompt of a task: what a language model is told of an example, and the texts of its answers.

Words are joined as lm-evaluation-harness joins them (``target_delimiter``, ``fewshot_delimiter``):
the prompt, a delimiter, the answer; solved examples stand before it, with an empty line between.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from paretune.answers import LengthNormalisation
from paretune.objectives.example import Example

SHOT_DELIMITER = "\n\n"
"""Stands between solved examples, and between the last of them and the question."""
_PLACEHOLDER = re.compile(r"\{(text_pair|text)\}")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """The form in which a language model is asked.

    Attributes:
        template: with ``{text}`` and ``{text_pair}``, an example's texts.
        label_texts: the answer for each label; none where an example has choices, which are the
            answers themselves, or a text.
        delimiter: stands between prompt and answer.
        length_normalisation: the log-likelihood of an answer is divided by its length in characters
            (``acc_norm`` of lm-evaluation-harness) or UTF-8 bytes (``acc_bytes``).
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
        """The solved examples before a prompt, as one text."""
        return "".join(shot + SHOT_DELIMITER for shot in self.shots)

    def last_shots(self, count: int) -> Prompt:
        """A copy of the prompt with the last solved examples only."""
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
        """The divisors of the answers' log-likelihoods."""
        if self.length_normalisation == "none":
            return [1.0] * len(answers)
        as_bytes = self.length_normalisation == "bytes"
        return [float(len(answer.encode() if as_bytes else answer)) for answer in answers]

    def with_shots(self, solved: Sequence[Example], max_tokens: int | None = None) -> Prompt:
        """A copy of the prompt with solved examples before it."""
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
