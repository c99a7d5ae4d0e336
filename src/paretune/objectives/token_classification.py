"""Token classification: a tag for each word of a text (names, parts of speech, chunks).

The words of an example are its text, cut at single blanks; its target are as many tags, written the
same way. A word that the tokenizer splits has its tag at its first piece; the others are read and
not scored (Devlin et al. 2019, arXiv:1810.04805, section 5.3). Loss: cross-entropy of the scored
pieces, summed over the words and divided by their number.

A text that is longer than the model takes is read in windows that overlap by a quarter. Each word
is scored once, in the window in which it is farthest from a cut: none is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from paretune.objectives.classification import NO_FEATURES, NO_QUESTION
from paretune.objectives.encoding import IGNORE_INDEX, Encoded
from paretune.objectives.language_modelling import target_of
from paretune.objectives.likelihood import text_likelihood
from paretune.objectives.objective import (
    LossOptions,
    ModelPredictions,
    Objective,
    TargetScale,
)

if TYPE_CHECKING:
    from torch import Tensor

    from paretune.data.example import Example
    from paretune.study import Answer

Span = tuple[int, int]
"""First character and the one behind the last."""
Array = NDArray[np.float32]


@dataclass(frozen=True)
class WordEncoder:
    """Token ids of texts, with the places of their words and the indices of their tags.

    A word of which the tokenizer makes nothing is read at the token before it, and is not learnt;
    neither is a tag that is none of ``labels``.
    """

    labels: tuple[str, ...]

    def __call__(
        self, examples: Sequence[Example], tokenizer: Any, max_length: int, prefix: str = ""
    ) -> Encoded:
        """Encode each example, in as many windows of ``max_length`` tokens as it needs."""
        texts = [prefix + example.segments[0][0] for example in examples]
        whole = _tokenise(tokenizer, texts) if texts else {}
        index = {label: i for i, label in enumerate(self.labels)}
        rows: list[_Window] = []
        for owner, (example, text) in enumerate(zip(examples, texts, strict=True)):
            spans = find_words(text, len(prefix))
            first = _find_first_pieces(whole["offset_mapping"][owner], spans)
            tags = example.target.split() if example.target is not None else [""] * len(spans)
            pairs = zip(tags, first, strict=True)
            labels = [index.get(tag, IGNORE_INDEX) if p else IGNORE_INDEX for tag, p in pairs]
            tokens, places = whole, [owner]
            if len(whole["input_ids"][owner]) > max_length:
                tokens = _tokenise(tokenizer, [text], max_length)
                windows = tokens["offset_mapping"]
                places = sorted(range(len(windows)), key=lambda place: max(windows[place]))
            pieces = [tokens["offset_mapping"][place] for place in places]
            for place, scored in zip(places, _share_words(pieces, first), strict=True):
                if scored:
                    types = tokens["token_type_ids"][place] if "token_type_ids" in tokens else None
                    ids, of_words = tokens["input_ids"][place], [labels[w] for w in scored]
                    rows.append(_Window(owner, ids, types, [*scored.values()], of_words))
        return Encoded(
            ids=[[row.ids] for row in rows],
            type_ids=[[row.types or []] for row in rows] if "token_type_ids" in whole else None,
            lengths=[len(row.ids) for row in rows],
            labels=[None] * len(rows),
            truncated=[False] * len(rows),
            owners=[row.owner for row in rows],
            word_places=[row.word_places for row in rows],
            word_labels=[row.word_labels for row in rows],
        )


@dataclass(frozen=True)
class _Window:
    owner: int
    ids: list[int]
    types: list[int] | None
    word_places: list[int]
    word_labels: list[int]


def find_words(text: str, start: int = 0) -> list[Span]:
    """The characters of each word of a text from ``start`` on; words stand between blanks."""
    words = text[start:].split(" ")
    begins = accumulate((len(word) + 1 for word in words[:-1]), initial=start)
    return [(begin, begin + len(word)) for begin, word in zip(begins, words, strict=True)]


def _tokenise(tokenizer: Any, texts: list[str], max_length: int | None = None) -> Any:
    """Tokens and the characters that they stand for; windows of texts, where they are cut."""
    cut: dict[str, Any] = {}
    if max_length is not None:
        cut = {"truncation": True, "max_length": max_length, "stride": max_length // 4}
        cut["return_overflowing_tokens"] = True
    return tokenizer(texts, return_offsets_mapping=True, verbose=False, **cut)


def _find_first_pieces(pieces: Sequence[Span], words: Sequence[Span]) -> list[Span | None]:
    """The first piece that has a character of each word; None where there is none."""
    first: list[Span | None] = [None] * len(words)
    word = 0
    for begin, end in pieces:
        while word < len(words) and words[word][1] <= begin < end:
            word += 1
        reached = word
        while reached < len(words) and words[reached][0] < end > begin:
            first[reached] = first[reached] or (begin, end)
            reached += 1
    return first


def _share_words(
    windows: Sequence[Sequence[Span]], first: Sequence[Span | None]
) -> list[dict[int, int]]:
    """The words that are scored in each window, with their places there.

    Args:
        windows: the characters of the tokens of each.
        first: those of the first piece of each word.
    """
    places: list[dict[Span, int]] = [{} for _ in windows]
    for window, tokens in enumerate(windows):
        for place, (begin, end) in enumerate(tokens):
            places[window].setdefault((begin, end), place)

    def distance(window: int, place: int) -> int:
        """From the nearest cut; the ends of the text are none."""
        behind = len(windows[window]) - place if window < len(windows) - 1 else place
        return min(place, behind) if window else behind

    scored: list[dict[int, int]] = [{} for _ in windows]
    window, place = 0, 0
    for word, piece in enumerate(first):
        windows_of_word = (
            [(w, at[piece]) for w, at in enumerate(places) if piece in at] if piece else []
        )
        window, place = max(windows_of_word, key=lambda at: distance(*at), default=(window, place))
        scored[window][word] = place
    return scored


def count_words(data: Encoded, indices: Sequence[int]) -> int:
    """Words of the examples that are scored in these rows."""
    return sum(len(_require(data.word_places)[i]) for i in indices)


def word_cross_entropy(
    logits: Tensor, data: Encoded, indices: Sequence[int], options: LossOptions
) -> Tensor:
    """Cross-entropy summed over the words, in nats; ``logits`` (words, labels)."""
    import torch
    import torch.nn.functional as F

    from paretune.device_transfer import to_device

    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    labels = [label for i in indices for label in _require(data.word_labels)[i]]
    return F.cross_entropy(
        wide,
        to_device(labels, wide.device),
        reduction="sum",
        ignore_index=IGNORE_INDEX,
        label_smoothing=options.label_smoothing,
    )


class WordLogitsCollector:
    """Gathers the logits of words; the result is (words, labels) for each example, fp32."""

    def __init__(self, data: Encoded) -> None:
        self._data = data
        self._rows: list[Array] = [np.empty((0, 0), np.float32)] * len(data.ids)

    def add(self, indices: Sequence[int], outputs: Tensor) -> None:
        """Take the logits of the words of some rows, (words, labels)."""
        ends = np.cumsum([count_words(self._data, [i]) for i in indices])
        pieces = np.split(outputs.float().cpu().numpy(), ends[:-1])
        for index, piece in zip(indices, pieces, strict=True):
            self._rows[index] = piece

    def result(self) -> list[Array]:
        """Of all examples, in their order, their windows put together."""
        windows: dict[int, list[Array]] = {}
        for owner, row in zip(_require(self._data.owners), self._rows, strict=True):
            windows.setdefault(owner, []).append(row)
        return [np.concatenate(rows) for rows in windows.values()]


@dataclass(frozen=True)
class TagPredictor:
    """The most probable tag of each word; the tags of an example are a text, as its target."""

    labels: tuple[str, ...]

    def __call__(
        self,
        outputs: Sequence[Array | str],
        examples: Sequence[Example],
        target_scale: TargetScale | None,
    ) -> ModelPredictions:
        """Tags from logits, (words, labels) of each example, or from a baseline's texts.

        ``scores`` are the log-likelihoods of the right tags, in nats, to four decimals.
        """
        from scipy.special import log_softmax

        texts: list[Answer] = []
        scores: list[list[float]] = []
        for output, example in zip(outputs, examples, strict=True):
            if isinstance(output, str):
                texts.append(output)
                scores.append([])
                continue
            texts.append(" ".join(self.labels[i] for i in output.argmax(1)))
            right = [self.labels.index(tag) for tag in (example.target or "").split()]
            table = log_softmax(output.astype(np.float64), axis=1)
            scores.append([round(float(row[i]), 4) for row, i in zip(table, right, strict=False)])
        likely = [score for row in scores for score in row]
        return ModelPredictions(texts, scores, -sum(likely) / len(likely) if likely else None)


def name_tags(objective: Objective, labels: Sequence[str]) -> Objective:
    """The objective of a data set, which knows its tags."""
    tags = tuple(labels)
    return replace(objective, encode=WordEncoder(tags), predict=TagPredictor(tags))


def _require(column: list[Any] | None) -> list[Any]:
    if column is None:
        raise ValueError("these examples were encoded without words")
    return column


_NO_SECOND_TEXT = "token classification reads one text, whose words have the tags"
TOKEN_CLASSIFICATION = Objective(
    name="token_classification",
    title="a tag for each word",
    excluded={
        "question": NO_QUESTION,
        "features": NO_FEATURES,
        **dict.fromkeys(("text_pair", "choices"), _NO_SECOND_TEXT),
    },
    reader="tags",
    checks=("texts", "tags"),
    describe=lambda labels, languages: f"tags {', '.join(labels)}",
    head="token_classification",
    problem_type=None,
    baselines=("majority_tag", "gazetteer"),
    tabular_baselines=(),
    target_types=("tags",),
    default_metric="entity_f1",
    recorded_metrics=("token_accuracy",),
    cuts_texts=False,
    encode=WordEncoder(()),
    weight=count_words,
    loss=word_cross_entropy,
    collector=WordLogitsCollector,
    predict=TagPredictor(()),
    for_labels=name_tags,
    reference=target_of,
    likelihood=text_likelihood,
    peft_task_type="TOKEN_CLS",
    usage="words",
    answer_noun="tags",
    parse_answer=lambda tags, labels: tags,
)
