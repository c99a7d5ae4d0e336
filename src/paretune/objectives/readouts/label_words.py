"""Label words: the answer whose text is the most likely behind the prompt.

With the prompt x and the text y of an answer, of the tokens y_1 ... y_n, its score is

    log p(y | x) = sum_t log p(y_t | x, y_1 ... y_{t-1}),

divided by the length of y where the task says so. Training minimises -log p of the right answer's
text alone (Schick and Schütze 2021, arXiv:2009.07118, for what a verbaliser is; Brown et al. 2020,
arXiv:2005.14165, section 2.4, for scores and normalisation). Tokens are those of
lm-evaluation-harness (``TemplateLM._encode_pair``): prompt and answer are tokenised as one text,
the answer's tokens are those after as many as the prompt has alone, and blanks at the prompt's end
belong to the answer. So scores are the same, and ``tests/objectives/readouts`` compares them.

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

from paretune.objectives.encoding import Encoded, pad_batch
from paretune.objectives.language_modelling import token_loss
from paretune.objectives.objective import Objective, count_examples
from paretune.objectives.token_outputs import TokenOutputs

if TYPE_CHECKING:
    from paretune.data.example import Example
    from paretune.data.prompt import Prompt

_WORD_START = re.compile(r"(?<=\s)\S")


def read_label_words(objective: Objective, prompt: Prompt) -> Objective:
    """The objective, answered by the likelihood of each answer's text."""
    encode = EncodeLabelWords(prompt)
    return replace(
        objective,
        head="causal_lm",
        problem_type=None,
        draws_head=False,
        num_logits=lambda labels: 0,
        encode=encode,
        encode_training=replace(encode, right_only=True),
        text_lengths=LabelWordLengths(prompt),
        collate=pad_batch,
        weight=count_examples,
        loss=token_loss,
        collector=LabelWordsCollector,
        peft_task_type="CAUSAL_LM",
    )


class LabelWordsCollector:
    """Gathers log-likelihoods; the result is (examples, answers), fp32, in nats or a share."""

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
        if self._data.divisors is None:
            return self._sums
        divisors: NDArray[np.float32] = np.array(self._data.divisors, np.float32)
        return np.divide(self._sums, divisors, dtype=np.float32)


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
        questions = [_Question.of(example, self.prompt, prefix) for example in examples]
        tokeniser = _Tokeniser(tokenizer, self.prompt, max_length)
        tokeniser.fit(questions)
        if self.right_only:
            for question, example in zip(questions, examples, strict=True):
                right = int(example.label or 0)
                question.tokens = [question.tokens[right]]
                question.answers = [question.answers[right]]
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


@dataclass(frozen=True)
class LabelWordLengths:
    """Counts the tokens of the longest text of each example, solved examples included."""

    prompt: Prompt

    def __call__(
        self, examples: Sequence[Example], tokenizer: Any, prefix: str
    ) -> dict[str, list[int]]:
        """``{"rows": ...}``, before any cut."""
        questions = [_Question.of(example, self.prompt, prefix) for example in examples]
        _Tokeniser(tokenizer, self.prompt, None).fit(questions)
        return {"rows": [question.size for question in questions]}


@dataclass
class _Question:
    """An example that is asked: its texts, its answers, and the tokens of both.

    Attributes:
        texts: of each answer, first and second text; equal but for kinds with choices.
        answers: without the delimiter.
        tokens: of each answer, those of the prompt and those that are scored.
        shots: how many of the solved examples, counted from the last, stand before it.
    """

    prompt: Prompt
    prefix: str
    texts: tuple[str, str | None]
    answers: list[str]
    shots: int
    tokens: list[tuple[list[int], list[int]]] = field(default_factory=list)
    truncated: bool = False

    @classmethod
    def of(cls, example: Example, prompt: Prompt, prefix: str) -> _Question:
        first, second = example.segments[0]
        pair = second if prompt.label_texts else None
        return cls(prompt, prefix, (first, pair), prompt.answers(example), len(prompt.shots))

    @property
    def context(self) -> str:
        """What stands before the answer, without the delimiter."""
        shots = self.prompt.shots[len(self.prompt.shots) - self.shots :]
        return self.prompt.join_shots(shots) + self.prefix + self.prompt.render(*self.texts)

    @property
    def size(self) -> int:
        """Tokens of the longest text."""
        return max(len(context) + len(answer) for context, answer in self.tokens)


class _Tokeniser:
    """Gives questions their tokens, cut to ``max_length`` (None: as they are)."""

    def __init__(self, tokenizer: Any, prompt: Prompt, max_length: int | None) -> None:
        self.tokenizer, self.prompt, self.max_length = tokenizer, prompt, max_length
        self.trailing = count_trailing_tokens(tokenizer)

    def fit(self, questions: Sequence[_Question]) -> None:
        """Tokenise and cut what is too long: texts first; then solved examples are left out."""
        if self.max_length is None:
            self._tokenise(questions)
            return
        for question in questions:
            question.shots = 0
        self._tokenise(questions)
        long = [q for q in questions if q.size > self.max_length]
        while long:
            for question in long:
                self._shorten(question, question.size - self.max_length)
            self._tokenise(long)
            long = [q for q in long if q.size > self.max_length and any(q.texts)]
        for question in questions:
            self._cut_rest(question, self.max_length)
        self._add_shots([q for q in questions if q.size <= self.max_length])

    def _add_shots(self, questions: Sequence[_Question]) -> None:
        """As many solved examples as fit with each question, the last ones."""
        alone = {id(q): q.tokens for q in questions}
        for question in questions:
            question.shots = len(self.prompt.shots)
        waiting = list(questions) if self.prompt.shots else []
        limit = self.prompt.max_shot_tokens
        while waiting:
            self._tokenise(waiting)
            waiting = [q for q in waiting if limit is not None and q.size > limit]
            for question in waiting:
                question.shots -= 1
                question.truncated = True
                if not question.shots:
                    question.tokens = alone[id(question)]
            waiting = [q for q in waiting if q.shots]

    def _tokenise(self, questions: Sequence[_Question]) -> None:
        contexts, wholes = [], []
        for question in questions:
            context = question.context
            stripped = context.rstrip()
            blanks = context[len(stripped) :]
            contexts.append(stripped)
            answers = (blanks + self.prompt.delimiter + answer for answer in question.answers)
            wholes.append([stripped + answer for answer in answers])
        ids = self._encode(contexts)
        flat = iter(self._encode([text for texts in wholes for text in texts]))
        for question, context_ids, texts in zip(questions, ids, wholes, strict=True):
            # An empty prompt: the answer is scored behind the first token of all texts.
            before = context_ids or self._first_token()
            question.tokens = []
            for _ in texts:
                whole = next(flat)
                answer = whole[len(context_ids) :] if context_ids else whole
                question.tokens.append((before, answer or whole[-1:]))

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(list(texts), verbose=False)["input_ids"]
        if not self.trailing:
            return ids
        return [tokens[: -self.trailing] for tokens in ids]

    def _first_token(self) -> list[int]:
        token = self.tokenizer.bos_token_id
        return [self.tokenizer.eos_token_id if token is None else token]

    def _shorten(self, question: _Question, excess: int) -> None:
        """Cut the beginning of the longest text, by whole words where it has several."""
        question.truncated = True
        spans = [self._spans(text) for text in question.texts]
        longest = max(range(len(spans)), key=lambda i: (len(spans[i]), bool(question.texts[i])))
        second_longest = max(
            (len(text_spans) for i, text_spans in enumerate(spans) if i != longest), default=0
        )
        room = len(spans[longest]) - second_longest
        count = min(excess, room) if room else -(-excess // 2)
        text = question.texts[longest] or ""
        place = spans[longest][count][0] if count < len(spans[longest]) else len(text)
        place = max(1, place)  # several tokens may begin at one character
        texts = list(question.texts)
        texts[longest] = _from_word_start(text, place)
        question.texts = (texts[0] or "", texts[1])

    def _spans(self, text: str | None) -> list[tuple[int, int]]:
        """Where each token of a text begins and ends."""
        if not text:
            return []
        encoded = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        spans: list[tuple[int, int]] = encoded["offset_mapping"]
        return spans

    def _cut_rest(self, question: _Question, limit: int) -> None:
        """Drop tokens at the beginning where the words around the texts are too long themselves."""
        if question.size <= limit:
            return
        question.truncated = True
        longest = max(len(answer) for _, answer in question.tokens)
        room = max(1, limit - longest)
        question.tokens = [
            (context[-room:], answer[: limit - 1]) for context, answer in question.tokens
        ]


def _from_word_start(text: str, place: int) -> str:
    """The text from the first word that begins at ``place`` or later; from there if none does."""
    match = _WORD_START.search(text, place)
    return text[match.start() if match else place :].lstrip()


def count_trailing_tokens(tokenizer: Any) -> int:
    """How many tokens the tokenizer puts behind each text."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    trailing = 0
    while len(whole) - trailing > 0 and whole[: len(whole) - trailing][-len(plain) :] != plain:
        trailing += 1
    return trailing
