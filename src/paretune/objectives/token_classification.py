"""Token classification: a tag for each word of a text (names, parts of speech, chunks).

The words of an example are its text, cut at single blanks; its target are as many tags, written the
same way. A word that the tokenizer splits has its tag at its first piece; the others are read and
not scored (Devlin et al. 2019, arXiv:1810.04805, section 5.3). Loss: cross-entropy of the scored
pieces, summed over the words and divided by their number.

A text that is longer than the model takes is read in windows that overlap by a quarter. Each word
is scored once, in the window in which it is farthest from a cut: none is lost.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paretune.answers import Answer
from paretune.objectives.classification import NO_FEATURES, NO_QUESTION, cross_entropy
from paretune.objectives.encoding import IGNORE_INDEX, Encoded
from paretune.objectives.example import Example
from paretune.objectives.objective import ModelPredictions, Objective, TargetScale

Array = NDArray[np.float32]
_WORD = re.compile("[^ ]+")


def encode_words(
    examples: Sequence[Example],
    tokenizer: Any,
    max_length: int,
    prefix: str = "",
    *,
    labels: Sequence[str] = (),
) -> Encoded:
    """Token ids of texts, with the places of their words and the indices of their tags.

    A text has as many windows of ``max_length`` tokens as it needs. A word of which the tokenizer
    makes nothing is read at the token before it, and is not learnt; neither is a tag that is none
    of ``labels``.
    """
    texts = [prefix + example.segments[0][0] for example in examples]
    cut = {"truncation": True, "max_length": max_length, "stride": max_length // 4}
    tokens = tokenizer(texts or [""], return_overflowing_tokens=True, verbose=False, **cut)
    windows: dict[int, list[Any]] = {}
    for window, owner in zip(tokens.encodings, tokens["overflow_to_sample_mapping"], strict=True):
        windows.setdefault(owner, []).append(window)
    index = {label: i for i, label in enumerate(labels)}
    rows = []
    for owner, (example, text) in enumerate(zip(examples, texts, strict=True)):
        words = [match.span() for match in _WORD.finditer(text, len(prefix))]
        tags = example.target.split() if example.target is not None else [""] * len(words)
        in_order = sorted(windows[owner], key=lambda window: max(window.offsets))
        scored: list[list[tuple[int, int]]] = [[] for _ in in_order]  # places and labels of words
        at = 0, 0
        for word, tag in zip(words, tags, strict=True):
            # Window and place of a word's first piece, and how far from a cut; the text's ends are
            # none. A window without the first piece may have the second, but nearer to its cut.
            margins = {}
            for row, window in enumerate(in_order):
                pieces = map(window.char_to_token, range(*word))
                if (place := next((p for p in pieces if p is not None), None)) is not None:
                    behind = len(window) - place if row < len(in_order) - 1 else inf
                    margins[row, place] = min(place if row else inf, behind)
            at = max(margins, key=lambda piece: margins[piece], default=at)
            scored[at[0]].append((at[1], index.get(tag, IGNORE_INDEX) if margins else IGNORE_INDEX))
        rows += [(owner, *row) for row in zip(in_order, scored, strict=True) if row[1]]
    return Encoded(
        ids=[[window.ids] for _, window, _ in rows],
        type_ids=[[w.type_ids] for _, w, _ in rows] if "token_type_ids" in tokens else None,
        lengths=[len(window.ids) for _, window, _ in rows],
        labels=[None] * len(rows),
        truncated=[False] * len(rows),
        owners=[owner for owner, _, _ in rows],
        word_places=[[place for place, _ in of_words] for _, _, of_words in rows],
        word_labels=[[label for _, label in of_words] for _, _, of_words in rows],
    )


def predict_tags(
    outputs: Sequence[Array | str],
    examples: Sequence[Example],
    target_scale: TargetScale | None,
    *,
    labels: Sequence[str] = (),
) -> ModelPredictions:
    """The most probable tag of each word; the tags of an example are a text, as its target.

    Args:
        outputs: logits, (words, labels) of each example, or a baseline's texts.

    Returns:
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
        texts.append(" ".join(labels[i] for i in output.argmax(1)))
        right = [labels.index(tag) for tag in (example.target or "").split()]
        table = log_softmax(output.astype(np.float64), axis=1)
        scores.append([round(float(row[i]), 4) for row, i in zip(table, right, strict=False)])
    likely = [score for row in scores for score in row]
    return ModelPredictions(texts, scores, -sum(likely) / len(likely) if likely else None)


def name_tags(objective: Objective, labels: Sequence[str]) -> Objective:
    """The objective of a data set, which knows its tags."""
    tags = tuple(labels)
    return replace(
        objective,
        encode=partial(encode_words, labels=tags),
        predict=partial(predict_tags, labels=tags),
    )


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
    head="token_classification",
    baselines=("majority_tag", "gazetteer"),
    default_metric="entity_f1",
    recorded_metrics=("token_accuracy",),
    encode=encode_words,
    loss_settings=("label_smoothing", "class_weights"),
    loss=cross_entropy,
    predict=predict_tags,
    for_labels=name_tags,
)
