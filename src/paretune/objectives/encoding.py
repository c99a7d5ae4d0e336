"""Token ids of examples, by a fast tokenizer that is passed in. Python lists only, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from paretune.data.example import Example
from paretune.study import Label


@dataclass(frozen=True)
class Encoded:
    """Token ids, special tokens included.

    Shapes: ``ids`` and ``type_ids`` (None where the tokenizer makes none) are
    (examples, choices, tokens), ragged in tokens; ``count_tokens`` (tokens of the longest choice),
    ``labels`` and ``truncated`` (any choice was cut) are (examples,). Of a translation,
    ``targets`` are the references (examples, tokens), and ``count_tokens`` counts both texts.
    """

    ids: list[list[list[int]]]
    type_ids: list[list[list[int]]] | None
    lengths: list[int]
    labels: list[Label | None]
    truncated: list[bool]
    targets: list[list[int]] | None = None

    @property
    def source_lengths(self) -> list[int]:
        """Tokens of each example's longest choice; of a translation, of the source alone."""
        return [max(len(tokens) for tokens in choices) for choices in self.ids]

    def select(self, indices: Sequence[int]) -> Encoded:
        """Some of the examples."""
        return Encoded(
            ids=[self.ids[i] for i in indices],
            type_ids=None if self.type_ids is None else [self.type_ids[i] for i in indices],
            lengths=[self.lengths[i] for i in indices],
            labels=[self.labels[i] for i in indices],
            truncated=[self.truncated[i] for i in indices],
            targets=None if self.targets is None else [self.targets[i] for i in indices],
        )


def encode_texts(
    examples: Sequence[Example], tokenizer: Any, max_length: int, prefix: str = ""
) -> Encoded:
    """Encode every choice of every example, and where all have a target, the targets.

    Everything is tokenised whole in one call, which tells the true lengths; only what is longer
    than ``max_length`` is tokenised again, cut from the longer of its two texts (so a short
    question survives a long passage). A target is cut at ``max_length`` too. ``prefix`` stands
    before every text.
    """
    pairs = [(prefix + first, second) for example in examples for first, second in example.segments]
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
    over = set(long)
    ends: list[tuple[int, int]] = []
    for example in examples:
        start = ends[-1][1] if ends else 0
        ends.append((start, start + len(example.segments)))
    encoded = Encoded(
        ids=[ids[a:b] for a, b in ends],
        type_ids=None if types is None else [types[a:b] for a, b in ends],
        lengths=[max(len(t) for t in ids[a:b]) for a, b in ends],
        labels=[e.label for e in examples],
        truncated=[any(i in over for i in range(a, b)) for a, b in ends],
    )
    texts = [e.target for e in examples if e.target is not None]
    if len(texts) < len(examples):
        return encoded
    return _encode_targets(encoded, texts, tokenizer, max_length)


def _encode_targets(
    encoded: Encoded, texts: Sequence[str], tokenizer: Any, max_length: int
) -> Encoded:
    whole: list[list[int]] = tokenizer(text_target=list(texts), verbose=False)["input_ids"]
    long = [i for i, tokens in enumerate(whole) if len(tokens) > max_length]
    if long:
        cut = tokenizer(
            text_target=[texts[i] for i in long], truncation=True, max_length=max_length
        )
        for place, i in enumerate(long):
            whole[i] = cut["input_ids"][place]
    over = set(long)
    return replace(
        encoded,
        type_ids=None,
        targets=whole,
        lengths=[a + len(b) for a, b in zip(encoded.lengths, whole, strict=True)],
        truncated=[cut or i in over for i, cut in enumerate(encoded.truncated)],
    )


def count_tokens(examples: Sequence[Example], tokenizer: Any, prefix: str = "") -> list[int]:
    """Tokens of each example's longest choice before any cut, special tokens included."""
    pairs = [(prefix + first, second) for example in examples for first, second in example.segments]
    sizes = iter([len(t) for t in _tokenise(tokenizer, pairs, None)["input_ids"]] if pairs else [])
    return [max(next(sizes) for _ in example.segments) for example in examples]


def count_target_tokens(examples: Sequence[Example], tokenizer: Any) -> list[int]:
    """Tokens of each example's reference before any cut, its end token included."""
    texts = [example.target or "" for example in examples]
    return (
        [len(t) for t in tokenizer(text_target=texts, verbose=False)["input_ids"]] if texts else []
    )


def _tokenise(
    tokenizer: Any, pairs: Sequence[tuple[str, str | None]], max_length: int | None
) -> Any:
    """One batched call where all have a second text, or none has; otherwise one for each kind."""
    options = {
        "add_special_tokens": True,
        "truncation": "longest_first" if max_length else False,
        "max_length": max_length,
        "verbose": False,  # whole texts may be longer than the model takes: that is the point
    }
    alone = [i for i, (_, second) in enumerate(pairs) if second is None]
    if len(alone) == len(pairs):
        return tokenizer([first for first, _ in pairs], **options)
    if not alone:
        return tokenizer([a for a, _ in pairs], [b for _, b in pairs], **options)
    both = [i for i, (_, second) in enumerate(pairs) if second is not None]
    out: dict[str, list[Any]] = {}
    for places in (alone, both):
        part = _tokenise(tokenizer, [pairs[i] for i in places], max_length)
        for key, values in part.items():
            column = out.setdefault(key, [None] * len(pairs))
            for place, value in zip(places, values, strict=True):
                column[place] = value
    return out
