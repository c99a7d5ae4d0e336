"""SloBench's own numbers, under its own names: SuperGLUE answers and translations.

What its evaluators do (github.com/clarinsi/slobench-eval-docker, NLTK 3.6.6) is computed here anew,
equal to 1e-9. All numbers are in 0..1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paretune.errors import MissingError
from paretune.metrics import classification
from paretune.metrics.meteor import meteor, porter
from paretune.metrics.ngrams import chrf, counts, from_sums
from paretune.metrics.wordnet import WordNet, find
from paretune.metrics.words import Tokeniser, tokeniser

Key = int | tuple[int, int, int]
"""A row's ``idx``; of an answer in MultiRC the ``idx`` of passage, question and answer."""
Label = str | int
Answers = Mapping[Key, Label]

LABELS: Mapping[str, tuple[Label, ...]] = {
    "BoolQ": ("false", "true"),
    "CB": ("entailment", "contradiction", "neutral"),
    "COPA": (0, 1),
    "MultiRC": (0, 1),
    "RTE": ("entailment", "not_entailment"),
    "WSC": ("False", "True"),
}
"""The six tasks, and their labels exactly as a submission spells them."""

CORPUS = "BLEU (corpus)"
"""The one number of a translation that is not the mean of its segments' scores."""
_PAIRS = 1 << 17


def superglue(
    answers: Mapping[str, Answers], references: Mapping[str, Answers]
) -> dict[str, float]:
    """Scores of the six tasks and their average.

    Args:
        answers: for each of :data:`LABELS`, every row's label.
        references: the right ones; the same rows.

    Raises:
        ValueError: a task or a row is missing, there are others, or a label is not of its task.
    """
    found: dict[str, float] = {}
    primary = []
    for task, labels in LABELS.items():
        given, right = answers[task], references[task]
        if given.keys() != right.keys():
            raise ValueError(f"{task}: answers and references are of different rows")
        keys = sorted(right, key=lambda key: key if isinstance(key, tuple) else (key,))
        asked = [labels.index(right[key]) for key in keys]
        said = [labels.index(given[key]) for key in keys]
        if task == "MultiRC":
            found["MultiRC F1a Score"] = _binary_f1(asked, said)
            found["MultiRC EM"] = _exact(given, right)
            found["MultiRC Average"] = fmean(found[f"MultiRC {n}"] for n in ("F1a Score", "EM"))
            primary.append(found["MultiRC Average"])
            continue
        metric = "accuracy_f1" if task == "CB" else "accuracy"
        scores = classification.scores(asked, said, len(labels), metric)
        found[f"{task} Accuracy"] = scores["accuracy"]
        if task == "CB":
            found["CB F1 Score"] = scores["macro_f1"]
            found["CB Average"] = scores["primary"]
        primary.append(scores["primary"])
    return {**found, "Average": fmean(primary)}


def _binary_f1(asked: Sequence[int], said: Sequence[int]) -> float:
    """F1 of label 1 over all answers of all questions; 0 where nobody says 1."""
    both = sum(a == s == 1 for a, s in zip(asked, said, strict=True))
    total = sum(asked) + sum(said)
    return 2 * both / total if total else 0.0


def _exact(given: Answers, right: Answers) -> float:
    """Share of questions of which every answer is right."""
    questions: dict[object, list[bool]] = defaultdict(list)
    for key, label in right.items():
        questions[key[:2] if isinstance(key, tuple) else key].append(given[key] == label)
    return fmean(all(answers) for answers in questions.values())


@dataclass(frozen=True)
class Segments:
    """What the scores of a translation are computed from, segment by segment.

    Attributes:
        columns: by SloBench's names: (segments,) scores, of which the number is the mean; of
            :data:`CORPUS` what :func:`paretune.metrics.ngrams.from_sums` wants the sum of,
            (segments, counts). SloBench's "CHRF (corpus)" is "CHRF (avg)", so it is not here.
        missing: why, by the names of what could not be computed.
        data: what was computed with what: words, stems, synonyms.
    """

    columns: dict[str, NDArray[Any]]
    missing: dict[str, str]
    data: tuple[str, ...]


@dataclass(frozen=True)
class Translation:
    """Scores of a translation.

    Attributes:
        scores: by SloBench's names; what could not be computed is not in it.
        missing: why, by the names of those.
        data: what was computed with what: words, stems, synonyms.
    """

    scores: dict[str, float]
    missing: dict[str, str]
    data: tuple[str, ...]


def translation(
    hypotheses: Sequence[str],
    references: Sequence[str],
    language: str,
    *,
    wordnet: Path | None = None,
) -> Translation:
    """BLEU, METEOR and chrF as SloBench computes them.

    BLEU and METEOR count NLTK's words, so they need NLTK and its data. chrF does not, unless a line
    has straight quotes, which NLTK's words spell otherwise.

    Args:
        hypotheses: lines of the submission.
        references: the reference's; as many.
        language: ``sl`` or ``en``: that of both.
        wordnet: folder of WordNet's files; by default where they are usually put.

    Raises:
        ValueError: different numbers of lines, or none.
    """
    found = segments(hypotheses, references, language, wordnet=wordnet)
    scores = {
        name: float(from_sums(column.sum(axis=0)) if name == CORPUS else column.mean())
        for name, column in found.columns.items()
    }
    missing = dict(found.missing)
    # NLTK's chrF of a corpus is the mean over its sentences: SloBench shows it twice.
    if "CHRF (avg)" in scores:
        scores["CHRF (corpus)"] = scores["CHRF (avg)"]
    else:
        missing["CHRF (corpus)"] = missing["CHRF (avg)"]
    return Translation(scores, missing, found.data)


def segments(
    hypotheses: Sequence[str],
    references: Sequence[str],
    language: str,
    *,
    wordnet: Path | None = None,
) -> Segments:
    """The same before it is averaged: what a bootstrap over segments resamples.

    Raises:
        ValueError: different numbers of lines, or none.
    """
    if len(hypotheses) != len(references) or not references:
        raise ValueError(f"{len(hypotheses)} hypotheses, {len(references)} references")
    lines = list(zip(hypotheses, references, strict=True))
    missing: dict[str, str] = {}
    try:
        cut = tokeniser(language)
    except MissingError as error:
        missing["BLEU (avg)"] = missing["METEOR (avg)"] = missing[CORPUS] = str(error)
        if any('"' in line for line in (*hypotheses, *references)):
            why = f'lines hold straight quotes ("), which words spell otherwise: {error}'
            missing["CHRF (avg)"] = why
            return Segments({}, missing, ())
        return Segments(
            {"CHRF (avg)": np.array([chrf(*pair) for pair in lines])},
            missing,
            ("characters alone: no line has quotes that words would spell otherwise",),
        )
    data = [f"words as NLTK 3.6.6 cuts them ({language}), by NLTK {_nltk_version()}"]
    counted, characters = zip(*(_counted(cut, *pair) for pair in lines), strict=True)
    table = np.array(counted, dtype=float)
    columns = {"BLEU (avg)": from_sums(table)}
    try:
        known, stem = _usual() if wordnet is None else find(wordnet), porter()
        words = ((_cut(cut, ours), _cut(cut, theirs)) for ours, theirs in lines)
        columns["METEOR (avg)"] = np.array([meteor(*p, stem, known.synonyms) for p in words])
        data.append(f"synonyms of {known.version or 'WordNet'} in {known.where}")
    except MissingError as error:
        missing["METEOR (avg)"] = str(error)
    columns |= {"CHRF (avg)": np.array(characters), CORPUS: table}
    return Segments(columns, missing, tuple(data))


@cache
def _usual() -> WordNet:
    """WordNet where it usually is, opened once: its indexes take longer than a seed's METEOR."""
    return find(None)


@lru_cache(maxsize=_PAIRS)
def _counted(cut: Tokeniser, hypothesis: str, reference: str) -> tuple[tuple[int, ...], float]:
    """Counts of BLEU, and chrF; seeds of one method often say the same."""
    ours, theirs = _cut(cut, hypothesis), _cut(cut, reference)
    return counts(ours, theirs), chrf(" ".join(ours), " ".join(theirs))


@lru_cache(maxsize=_PAIRS)
def _cut(cut: Tokeniser, text: str) -> tuple[str, ...]:
    return tuple(cut(text))


def _nltk_version() -> str:
    from importlib.metadata import version

    return version("nltk")
