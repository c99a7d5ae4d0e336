"""Token ids of examples, by a fast tokenizer that is passed in. Python lists only, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from paretune.answers import Label
from paretune.objectives.example import Example

Text = tuple[int, int]
"""An example and a choice."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """Token ids, special tokens included. Equal only to itself, so that it can be a key.

    Shapes: ``ids`` and ``type_ids`` (None where the tokenizer makes none) are
    (examples, choices, tokens), ragged in tokens; ``lengths`` (tokens of the longest choice),
    ``labels`` and ``truncated`` (any choice was cut) are (examples,). With ``targets``
    (examples, tokens), ``lengths`` counts text and target.

    ``completion_starts`` (examples, choices): in texts that a decoder continues, the place of the
    first token of the completion, at least 1; what is before it is the prompt, and is not scored.
    ``unscored`` (examples, choices, places), ragged: places behind it that are not scored either,
    such as the user's words between two answers.
    ``alternatives`` (examples, answers): where completions are one token, the tokens that are
    scored in its place. ``divisors`` (examples, answers): log-likelihoods are divided by these.

    ``word_places`` (examples, words): where each word is scored, ``word_labels`` (examples, words)
    the index of its tag, or -100. ``owners``: the example of which each row is a window, ascending;
    rows stand in the place of examples then.

    ``reference`` (examples, choices): log-likelihoods of the completions before training, in nats.
    ``mismatched``: each prompt with the completion of another one.
    """

    ids: list[list[list[int]]]
    type_ids: list[list[list[int]]] | None
    lengths: list[int]
    labels: list[Label | None]
    truncated: list[bool]
    targets: list[list[int]] | None = None
    completion_starts: list[list[int]] | None = None
    unscored: list[list[list[int]]] | None = None
    alternatives: list[list[int]] | None = None
    divisors: list[list[float]] | None = None
    word_places: list[list[int]] | None = None
    word_labels: list[list[int]] | None = None
    owners: list[int] | None = None
    reference: list[list[float]] | None = None
    mismatched: Encoded | None = None

    @property
    def source_lengths(self) -> list[int]:
        """Tokens of each example's longest choice, without its target."""
        return [max(len(tokens) for tokens in choices) for choices in self.ids]

    def class_labels(self, indices: Sequence[int]) -> list[Any]:
        """The labels of some examples, or of their words."""
        if self.word_labels is None:
            return [self.labels[i] for i in indices]
        return [label for i in indices for label in self.word_labels[i]]

    def target_length(self, index: int) -> int:
        """Tokens of an example's target; 0 where there are none."""
        return 0 if self.targets is None else len(self.targets[index])

    def scored_length(self, text: Text) -> int:
        """Tokens of a text whose losses count: of its completion, or of its example's target."""
        example, choice = text
        if self.completion_starts is None:
            return self.target_length(example)
        left_out = 0 if self.unscored is None else len(self.unscored[example][choice])
        return self.completion_length(text) - left_out

    def completion_length(self, text: Text) -> int:
        """Tokens of a text from the first that is scored to its end.

        Raises:
            ValueError: the examples have no completions.
        """
        if self.completion_starts is None:
            raise ValueError("these examples were encoded without completions")
        example, choice = text
        return len(self.ids[example][choice]) - self.completion_starts[example][choice]

    def scored_places(self, text: Text) -> list[int]:
        """The places of the tokens of a completion that are scored, in their order."""
        example, choice = text
        end = len(self.ids[example][choice])
        left_out = set() if self.unscored is None else set(self.unscored[example][choice])
        return [p for p in range(end - self.completion_length(text), end) if p not in left_out]

    @property
    def mean_scored(self) -> float:
        """Mean over the examples of the tokens whose losses count, all choices together."""
        texts = ((i, c) for i, choices in enumerate(self.ids) for c in range(len(choices)))
        return sum(map(self.scored_length, texts)) / max(1, len(self.ids))

    def select(self, indices: Sequence[int]) -> Encoded:
        """Some of the examples."""
        chosen: dict[str, Any] = {}
        for column in fields(self):
            values = getattr(self, column.name)
            chosen[column.name] = None if values is None else [values[i] for i in indices]
        return Encoded(**chosen)


def encode_texts(
    examples: Sequence[Example], tokenizer: Any, max_length: int, prefix: str = ""
) -> Encoded:
    """Encode every choice of every example, and the targets where all examples have one.

    All texts are tokenised whole in one call, which gives their true lengths; only what is longer
    than ``max_length`` (special tokens included) is tokenised again, cut from the longer of its two
    texts, so that a short question survives a long passage. ``prefix`` comes before first texts.
    """
    pairs = [(prefix + first, second) for e in examples for first, second in e.segments]
    if not pairs:
        return Encoded([], None, [], [], [])
    whole = _tokenise(tokenizer, pairs, None)
    ids: list[list[int]] = list(whole["input_ids"])
    types = list(whole["token_type_ids"]) if "token_type_ids" in whole else None
    long = [i for i, tokens in enumerate(ids) if len(tokens) > max_length]
    if long:
        cut = _tokenise(tokenizer, [pairs[i] for i in long], max_length)
        for place, i in enumerate(long):
            ids[i] = cut["input_ids"][place]
            if types is not None:
                types[i] = cut["token_type_ids"][place]
    ends = np.cumsum([len(example.segments) for example in examples])
    spans = [slice(end - len(e.segments), end) for e, end in zip(examples, ends, strict=True)]
    is_long = np.isin(range(len(pairs)), long)
    encoded = Encoded(
        ids=[ids[span] for span in spans],
        type_ids=None if types is None else [types[span] for span in spans],
        lengths=[max(len(tokens) for tokens in ids[span]) for span in spans],
        labels=[e.label for e in examples],
        truncated=[bool(is_long[span].any()) for span in spans],
    )
    texts = [e.target for e in examples if e.target is not None]
    if len(texts) < len(examples):
        return encoded
    targets: list[list[int]] = tokenizer(text_target=texts, verbose=False)["input_ids"]
    options = {"truncation": True, "max_length": max_length}
    for i, tokens in enumerate(targets):
        if len(tokens) > max_length:
            targets[i] = tokenizer(text_target=texts[i], **options)["input_ids"]
            encoded.truncated[i] = True
    lengths = [a + len(b) for a, b in zip(encoded.lengths, targets, strict=True)]
    return replace(encoded, type_ids=None, targets=targets, lengths=lengths)


def _tokenise(
    tokenizer: Any, pairs: Sequence[tuple[str, str | None]], max_length: int | None
) -> Any:
    """Tokens of texts, or of pairs of texts.

    A tokenizer that puts nothing between two texts (of many decoders) gets a line break there, and
    one that makes no token of an empty text gets the token that ends a text.
    """
    first = [text for text, _ in pairs]
    second = None
    if any(text is not None for _, text in pairs):
        between = "" if marks_pairs(tokenizer) else "\n"
        second = [between + (text or "") for _, text in pairs]
    encoded = tokenizer(
        first,
        second,
        truncation="longest_first" if max_length else False,
        max_length=max_length,
        verbose=False,  # texts may be longer than the model takes: that is the point
    )
    for row, ids in enumerate(encoded["input_ids"]):
        if not ids:
            ends = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id, 0)
            ids.append(next(token for token in ends if token is not None))
            if "token_type_ids" in encoded:
                encoded["token_type_ids"][row].append(0)
    return encoded


def marks_pairs(tokenizer: Any) -> bool:
    """Whether the tokenizer adds more to a pair of texts than to one: a token between them."""
    of_pair, of_one = (int(tokenizer.num_special_tokens_to_add(pair=b)) for b in (True, False))
    return of_pair > of_one


Batch = dict[str, np.ndarray[Any, np.dtype[np.int64]]]
"""Model inputs by the names that transformers gives them."""

IGNORE_INDEX = -100
"""Where a batch of targets has no token; torch's losses ignore it."""


def pad_batch(data: Encoded, indices: Sequence[int], pad_id: int) -> Batch:
    """One batch, padded on the right to its own longest text.

    Returns:
        ``input_ids``, ``attention_mask``, and ``token_type_ids`` where the model has them (padded
        with 0): (batch, tokens), or (batch, choices, tokens) for several choices. With targets
        also ``labels``, (batch, target tokens), padded with -100; with completions ``labels`` has
        the shape of ``input_ids``, and -100 for all tokens that are not scored.
    """
    choices = len(data.ids[indices[0]])
    longest = max(len(tokens) for i in indices for tokens in data.ids[i])
    shape = (len(indices), choices, longest)
    ids, mask = np.full(shape, pad_id, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    types = None if data.type_ids is None else np.zeros(shape, dtype=np.int64)
    for row, i in enumerate(indices):
        for c, tokens in enumerate(data.ids[i]):
            ids[row, c, : len(tokens)] = tokens
            mask[row, c, : len(tokens)] = 1
            if types is not None and data.type_ids is not None:
                types[row, c, : len(tokens)] = data.type_ids[i][c]
    batch = {"input_ids": ids, "attention_mask": mask}
    if types is not None:
        batch["token_type_ids"] = types
    if data.completion_starts is not None:
        batch["labels"] = np.full(shape, IGNORE_INDEX, dtype=np.int64)
        for row, i in enumerate(indices):
            for c, tokens in enumerate(data.ids[i]):
                places = data.scored_places((i, c))
                batch["labels"][row, c, places] = np.array(tokens)[places]
    if choices == 1:
        batch = {name: array[:, 0] for name, array in batch.items()}
    if data.targets is not None:
        width = max(len(data.targets[i]) for i in indices)
        batch["labels"] = np.full((len(indices), width), IGNORE_INDEX, dtype=np.int64)
        for row, i in enumerate(indices):
            batch["labels"][row, : len(data.targets[i])] = data.targets[i]
    return batch
