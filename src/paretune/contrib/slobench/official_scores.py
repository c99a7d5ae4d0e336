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

from paretune.contrib.slobench.nltk_ngrams import chrf, count_ngrams, from_sums
from paretune.errors import MissingDependencyError
from paretune.metrics import classification
from paretune.metrics.meteor import meteor_score, porter_stemmer
from paretune.metrics.nltk_words import Tokeniser, load_tokeniser
from paretune.metrics.wordnet import WordNet, find_wordnet

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

CORPUS_BLEU = "BLEU (corpus)"
"""The one number of a translation that is not the mean of its segments' scores."""
_PAIRS = 1 << 17


def score_superglue(
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
            found["MultiRC EM"] = _exact_match(given, right)
            found["MultiRC Average"] = fmean(found[f"MultiRC {n}"] for n in ("F1a Score", "EM"))
            primary.append(found["MultiRC Average"])
            continue
        found[f"{task} Accuracy"] = classification.accuracy(asked, said)
        primary.append(found[f"{task} Accuracy"])
        if task == "CB":
            found["CB F1 Score"] = classification.macro_f1(asked, said)
            found["CB Average"] = classification.accuracy_f1(asked, said)
            primary[-1] = found["CB Average"]
    return {**found, "Average": fmean(primary)}


def _binary_f1(asked: Sequence[int], said: Sequence[int]) -> float:
    """F1 of label 1 over all answers of all questions; 0 where nobody says 1."""
    both = sum(a == s == 1 for a, s in zip(asked, said, strict=True))
    total = sum(asked) + sum(said)
    return 2 * both / total if total else 0.0


def _exact_match(given: Answers, right: Answers) -> float:
    """Share of questions of which every answer is right."""
    questions: dict[object, list[bool]] = defaultdict(list)
    for key, label in right.items():
        questions[key[:2] if isinstance(key, tuple) else key].append(given[key] == label)
    return fmean(all(answers) for answers in questions.values())


@dataclass(frozen=True)
class SegmentScores:
    """What the scores of a translation are computed from, segment by segment.

    Attributes:
        columns: by SloBench's names: (segments,) scores, of which the number is the mean; of
            :data:`CORPUS_BLEU` what :func:`paretune.contrib.slobench.nltk_ngrams.from_sums` wants
            the sum of,
            (segments, counts). SloBench's "CHRF (corpus)" is "CHRF (avg)", so it is not here.
        missing: why, by the names of what could not be computed.
        data: what was computed with what: words, stems, synonyms.
    """

    columns: dict[str, NDArray[Any]]
    missing: dict[str, str]
    data: tuple[str, ...]


@dataclass(frozen=True)
class TranslationScores:
    """Scores of a translation.

    Attributes:
        scores: by SloBench's names; what could not be computed is not in it.
        missing: why, by the names of those.
        data: what was computed with what: words, stems, synonyms.
    """

    scores: dict[str, float]
    missing: dict[str, str]
    data: tuple[str, ...]


def score_translation(
    hypotheses: Sequence[str],
    references: Sequence[str],
    language: str,
    *,
    wordnet: Path | None = None,
) -> TranslationScores:
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
    found = score_segments(hypotheses, references, language, wordnet=wordnet)
    scores = {
        name: float(from_sums(column.sum(axis=0)) if name == CORPUS_BLEU else column.mean())
        for name, column in found.columns.items()
    }
    missing = dict(found.missing)
    # NLTK's chrF of a corpus is the mean over its sentences: SloBench shows it twice.
    if "CHRF (avg)" in scores:
        scores["CHRF (corpus)"] = scores["CHRF (avg)"]
    else:
        missing["CHRF (corpus)"] = missing["CHRF (avg)"]
    return TranslationScores(scores, missing, found.data)


def score_segments(
    hypotheses: Sequence[str],
    references: Sequence[str],
    language: str,
    *,
    wordnet: Path | None = None,
) -> SegmentScores:
    """The same before it is averaged: what a bootstrap over segments resamples.

    Raises:
        ValueError: different numbers of lines, or none.
    """
    if len(hypotheses) != len(references) or not references:
        raise ValueError(f"{len(hypotheses)} hypotheses, {len(references)} references")
    lines = list(zip(hypotheses, references, strict=True))
    missing: dict[str, str] = {}
    try:
        cut = load_tokeniser(language)
    except MissingDependencyError as error:
        missing["BLEU (avg)"] = missing["METEOR (avg)"] = missing[CORPUS_BLEU] = str(error)
        if any('"' in line for line in (*hypotheses, *references)):
            why = f'lines hold straight quotes ("), which words spell otherwise: {error}'
            missing["CHRF (avg)"] = why
            return SegmentScores({}, missing, ())
        return SegmentScores(
            {"CHRF (avg)": np.array([chrf(*pair) for pair in lines])},
            missing,
            ("characters alone: no line has quotes that words would spell otherwise",),
        )
    data = [f"words as NLTK 3.6.6 cuts them ({language}), by NLTK {_nltk_version()}"]
    counted, characters = zip(*(_count_pair(cut, *pair) for pair in lines), strict=True)
    table = np.array(counted, dtype=float)
    columns = {"BLEU (avg)": from_sums(table)}
    try:
        known, stem = (
            _default_wordnet() if wordnet is None else find_wordnet(wordnet),
            porter_stemmer(),
        )
        words = ((_tokenise(cut, ours), _tokenise(cut, theirs)) for ours, theirs in lines)
        columns["METEOR (avg)"] = np.array([meteor_score(*p, stem, known.synonyms) for p in words])
        data.append(f"synonyms of {known.version or 'WordNet'} in {known.where}")
    except MissingDependencyError as error:
        missing["METEOR (avg)"] = str(error)
    columns |= {"CHRF (avg)": np.array(characters), CORPUS_BLEU: table}
    return SegmentScores(columns, missing, tuple(data))


@cache
def _default_wordnet() -> WordNet:
    """WordNet where it usually is, opened once: its indexes take longer than a seed's METEOR."""
    return find_wordnet(None)


@lru_cache(maxsize=_PAIRS)
def _count_pair(cut: Tokeniser, hypothesis: str, reference: str) -> tuple[tuple[int, ...], float]:
    """Counts of BLEU, and chrF; seeds of one method often say the same."""
    ours, theirs = _tokenise(cut, hypothesis), _tokenise(cut, reference)
    return count_ngrams(ours, theirs), chrf(" ".join(ours), " ".join(theirs))


@lru_cache(maxsize=_PAIRS)
def _tokenise(cut: Tokeniser, text: str) -> tuple[str, ...]:
    return tuple(cut(text))


def _nltk_version() -> str:
    from importlib.metadata import version

    return version("nltk")
