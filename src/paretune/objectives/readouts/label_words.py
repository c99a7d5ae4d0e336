"""Label words: the answer whose text is the most likely behind the prompt.

An answer with the text y, whose tokens are y_1 ... y_n, has behind the prompt x the score

    log p(y | x) = sum_t log p(y_t | x, y_1 ... y_{t-1}),

divided by the length of y where the task says so. Training minimises -log p of the right answer's
text alone (Schick and Schütze 2021, arXiv:2009.07118, for what a verbaliser is; Brown et al. 2020,
arXiv:2005.14165, section 2.4, for scores and normalisation). Tokens are those of
lm-evaluation-harness (``TemplateLM._encode_pair``): prompt and answer are tokenised as one text,
the answer's tokens are those after as many as the prompt has alone, and blanks at the prompt's end
belong to the answer. Scores are the same, and ``tests/objectives/readouts`` compares them.

A text that is too long is cut in the prompt, at the beginning of the longest of the example's
texts: the words around it, the shorter text and the answer stay whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from paretune.objectives.encoding import Encoded
from paretune.objectives.example import Example
from paretune.objectives.language_modelling import token_loss
from paretune.objectives.objective import LossOptions, Objective, count_examples
from paretune.objectives.prompt import Prompt
from paretune.objectives.token_outputs import TokenOutputs

if TYPE_CHECKING:
    from torch import Tensor


_WORD_START = re.compile(r"(?<=\s)\S")


def read_label_words(objective: Objective, prompt: Prompt) -> Objective:
    """The objective, answered by the likelihood of each answer's text."""
    encode = EncodeLabelWords(prompt)
    return replace(
        objective,
        head="causal_lm",
        encode=encode,
        encode_training=replace(encode, right_only=True),
        weight=count_examples,
        loss=right_answer_loss,
        collector=LabelWordsCollector,
    )


def right_answer_loss(
    outputs: TokenOutputs, data: Encoded, indices: Sequence[int], options: LossOptions
) -> Tensor:
    """Cross-entropy summed over the tokens of the right answers, each weighted by its label."""
    if options.class_weights is None:
        return token_loss(outputs, data, indices, options)
    import torch

    from paretune.device_transfer import to_device

    weights = [
        options.class_weights[int(data.labels[example] or 0)][0]
        for example, choice in outputs.texts
        for _ in range(data.scored_length((example, choice)))
    ]
    of_tokens = to_device(torch.tensor(weights), outputs.labels.device)
    return outputs.summed_loss(options.label_smoothing, of_tokens)


class LabelWordsCollector:
    """Gathers log-likelihoods less any reference: (examples, answers), fp32, in nats or a share."""

    def __init__(self, data: Encoded) -> None:
        self._data = data
        answers = len((data.alternatives or data.ids)[0]) if data.ids else 0
        self._sums = np.zeros((len(data.ids), answers), np.float32)

    def add(self, indices: Sequence[int], outputs: TokenOutputs) -> None:
        """Take the outputs for the tokens of all answers of some examples."""
        data = self._data
        if data.alternatives is not None:
            places = [data.alternatives[example] for example, _ in outputs.texts]
            rows = outputs.alternative_log_probabilities(places).float().cpu().numpy()
            for (example, _), row in zip(outputs.texts, rows, strict=True):
                self._sums[example] = row
            return
        _, losses = outputs.evaluation_losses()
        ends = np.cumsum([data.scored_length(text) for text in outputs.texts])
        pieces = np.split(losses.float().cpu().numpy(), ends[:-1])
        for text, piece in zip(outputs.texts, pieces, strict=True):
            self._sums[text] = -piece.sum()

    def result(self) -> NDArray[np.float32]:
        """Scores of the answers of all examples, in their order."""
        sums = np.subtract(self._sums, self._data.reference or 0.0, dtype=np.float32)
        if self._data.divisors is None:
            return sums
        divisors: NDArray[np.float32] = np.array(self._data.divisors, np.float32)
        return np.divide(sums, divisors, dtype=np.float32)


@dataclass(frozen=True)
class EncodeLabelWords:
    """Tokenises the prompt of each example with the text of each answer.

    Where each answer of every example is one token, they share one text, whose last place is
    scored for all of them (:attr:`Encoded.alternatives`).

    Args:
        right_only: with the right answer alone, to train on it.
    """

    prompt: Prompt
    right_only: bool = False

    def __call__(
        self, examples: Sequence[Example], tokenizer: Any, max_length: int, prefix: str = ""
    ) -> Encoded:
        """One text for each answer; see :class:`~paretune.objectives.objective.Encode`."""
        questions = _ask(examples, self.prompt, tokenizer, prefix, max_length)
        if self.right_only:
            for question, example in zip(questions, examples, strict=True):
                right = slice(int(example.label or 0), int(example.label or 0) + 1)
                question.tokens = question.tokens[right]
                question.answers = question.answers[right]
        shared = not self.right_only and all(
            len(answer) == 1 for question in questions for _, answer in question.tokens
        )
        texts_of = [question.tokens[:1] if shared else question.tokens for question in questions]
        divisors = [self.prompt.divisors(question.answers) for question in questions]
        return Encoded(
            ids=[[context + answer for context, answer in texts] for texts in texts_of],
            type_ids=None,
            lengths=[max(len(c) + len(a) for c, a in texts) for texts in texts_of],
            labels=[example.label for example in examples],
            truncated=[question.truncated for question in questions],
            completion_starts=[[len(context) for context, _ in texts] for texts in texts_of],
            alternatives=[[answer[0] for _, answer in q.tokens] for q in questions]
            if shared
            else None,
            divisors=None if self.prompt.length_normalisation == "none" else divisors,
        )


@dataclass
class _Question:
    """The question of one example.

    Attributes:
        texts: of each answer, first and second text; equal but for kinds with choices.
        answers: without the delimiter.
        tokens: of each answer, those of the prompt and those that are scored.
        shots: how many of the solved examples, counted from the last, stand before it.
    """

    texts: tuple[str, str | None]
    answers: list[str]
    shots: int = 0
    tokens: list[tuple[list[int], list[int]]] = field(default_factory=list)
    truncated: bool = False

    @property
    def size(self) -> int:
        """Tokens of the longest text."""
        return max(len(context) + len(answer) for context, answer in self.tokens)


def _ask(
    examples: Sequence[Example], prompt: Prompt, tokenizer: Any, prefix: str, limit: int
) -> list[_Question]:
    """The questions with their tokens; what is longer than the limit is cut, texts first."""
    trailing = count_trailing_tokens(tokenizer)

    def tokenise(questions: Sequence[_Question]) -> None:
        contexts, wholes = [], []
        for question in questions:
            rendered = prompt.render(*question.texts)
            context = prompt.last_shots(question.shots).join_shots() + prefix + rendered
            contexts.append(context.rstrip())
            start = context + prompt.delimiter
            wholes += [start + answer for answer in question.answers]
        if not contexts:
            return
        ids = tokenizer([*contexts, *wholes], verbose=False)["input_ids"]
        ids = [tokens[: len(tokens) - trailing] for tokens in ids]
        whole_ids = iter(ids[len(contexts) :])
        # An empty prompt: the answer is scored behind the first token of all texts.
        first = tokenizer.bos_token_id
        alone = [tokenizer.eos_token_id if first is None else first]
        for question, context_ids in zip(questions, ids[: len(contexts)], strict=True):
            question.tokens = []
            for _, whole in zip(question.answers, whole_ids, strict=False):
                answer = whole[len(context_ids) :] or whole[-1:]
                question.tokens.append((context_ids or alone, answer))

    questions = []
    for example in examples:
        text, pair = example.segments[0]
        texts = (text, pair if prompt.label_texts else None)
        questions.append(_Question(texts, prompt.answers(example)))
    tokenise(questions)
    long = [q for q in questions if q.size > limit]
    while long:
        for question in long:
            _shorten(question, question.size - limit, tokenizer)
        tokenise(long)
        long = [q for q in long if q.size > limit and any(q.texts)]
    for question in questions:
        if question.size > limit:  # the words around the texts are too long themselves
            question.truncated = True
            room = max(1, limit - max(len(answer) for _, answer in question.tokens))
            question.tokens = [
                (context[-room:], answer[: limit - 1]) for context, answer in question.tokens
            ]
    fitting = [q for q in questions if q.size <= limit]
    alone = [q.tokens for q in fitting]

    def measure(places: Sequence[int], shots: Sequence[int]) -> list[int]:
        for place, count in zip(places, shots, strict=True):
            fitting[place].shots = count
        tokenise([fitting[place] for place in places])
        return [fitting[place].size for place in places]

    for question, tokens, shots in zip(
        fitting, alone, prompt.fit_shots(len(fitting), measure), strict=True
    ):
        if not shots:
            question.tokens = tokens
        question.truncated |= shots < len(prompt.shots)
    return questions


def _shorten(question: _Question, excess: int, tokenizer: Any) -> None:
    """Cut the beginning of the longest text, by whole words where it has several."""
    question.truncated = True
    starts: list[list[int]] = []
    for text in question.texts:
        options = {"add_special_tokens": False, "return_offsets_mapping": True, "verbose": False}
        offsets = tokenizer(text, **options)["offset_mapping"] if text else []
        starts.append([start for start, _ in offsets])
    longest = max(range(2), key=lambda i: (len(starts[i]), bool(question.texts[i])))
    room = len(starts[longest]) - len(starts[1 - longest])
    count = min(excess, room) if room else -(-excess // 2)
    text = question.texts[longest] or ""
    place = starts[longest][count] if count < len(starts[longest]) else len(text)
    place = max(1, place)  # several tokens may begin at one character
    word = _WORD_START.search(text, place)
    rest = text[word.start() if word else place :].lstrip()
    first, second = question.texts
    question.texts = (rest, second) if longest == 0 else (first, rest)


def count_trailing_tokens(tokenizer: Any) -> int:
    """How many tokens the tokenizer puts behind each text."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    trailing = 0
    while len(whole) - trailing > 0 and whole[: len(whole) - trailing][-len(plain) :] != plain:
        trailing += 1
    return trailing
