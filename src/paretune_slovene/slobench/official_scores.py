"""SloBench's official scores, under its names: of SuperGLUE answers and of translations.

A reimplementation of its evaluators (github.com/clarinsi/slobench-eval-docker, NLTK 3.6.6), equal
to 1e-9. All scores are in 0..1.
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

from paretune import metrics
from paretune.errors import MissingDependencyError
from paretune_slovene.metrics.meteor import meteor_score, porter_stemmer
from paretune_slovene.metrics.nltk_words import Tokeniser, load_tokeniser
from paretune_slovene.metrics.wordnet import WordNet, find_wordnet
from paretune_slovene.slobench.nltk_ngrams import chrf, count_ngrams, from_sums

Key = int | tuple[int, int, int]
"""The ``idx`` of a row; in MultiRC those of passage, question and answer."""
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
"""The six tasks and their labels, spelled as in a submission."""

CORPUS_BLEU = "BLEU (corpus)"
"""The one score of a translation that is not the mean of its segments' scores."""
_CACHED_PAIRS = 1 << 17


def score_superglue(
    answers: Mapping[str, Answers], references: Mapping[str, Answers]
) -> dict[str, float]:
    """Scores of the six tasks and their average.

    Args:
        answers: for each task of :data:`LABELS`, every row's label.
        references: the correct labels of the same rows.

    Raises:
        ValueError: a task or a row is missing, there are others, or a label is not of its task.
    """
    scores: dict[str, float] = {}
    primary = []
    for task, labels in LABELS.items():
        if answers[task].keys() != references[task].keys():
            raise ValueError(f"{task}: answers and references are of different rows")
        keys = sorted(references[task], key=lambda key: key if isinstance(key, tuple) else (key,))
        expected = [labels.index(references[task][key]) for key in keys]
        predicted = [labels.index(answers[task][key]) for key in keys]
        if task == "MultiRC":
            scores["MultiRC F1a Score"] = _binary_f1(expected, predicted)
            scores["MultiRC EM"] = _exact_match(answers[task], references[task])
            scores["MultiRC Average"] = fmean(scores[f"MultiRC {n}"] for n in ("F1a Score", "EM"))
            primary.append(scores["MultiRC Average"])
            continue
        scores[f"{task} Accuracy"] = metrics.get("accuracy").compute(expected, predicted)
        primary.append(scores[f"{task} Accuracy"])
        if task == "CB":
            scores["CB F1 Score"] = metrics.get("macro_f1").compute(expected, predicted)
            scores["CB Average"] = metrics.get("accuracy_f1").compute(expected, predicted)
            primary[-1] = scores["CB Average"]
    return {**scores, "Average": fmean(primary)}


def _binary_f1(expected: Sequence[int], predicted: Sequence[int]) -> float:
    """F1 of label 1 over all answers of all questions; 0 if there is no 1 on either side."""
    hits = sum(e == p == 1 for e, p in zip(expected, predicted, strict=True))
    total = sum(expected) + sum(predicted)
    return 2 * hits / total if total else 0.0


def _exact_match(answers: Answers, references: Answers) -> float:
    """Share of questions of which every answer is correct."""
    questions: dict[object, list[bool]] = defaultdict(list)
    for key, label in references.items():
        questions[key[:2] if isinstance(key, tuple) else key].append(answers[key] == label)
    return fmean(all(correct) for correct in questions.values())


@dataclass(frozen=True)
class SegmentScores:
    """Scores of a translation, segment by segment: what a bootstrap over segments resamples.

    Attributes:
        columns: by SloBench's names. The official score is the mean of a column (segments,); of
            :data:`CORPUS_BLEU` it is :func:`~paretune_slovene.slobench.nltk_ngrams.from_sums` of
            the sum of the column (segments, counts). SloBench's "CHRF (corpus)" is not here, since
            it equals "CHRF (avg)".
        missing: the reason for each score that could not be computed.
    """

    columns: dict[str, NDArray[Any]]
    missing: dict[str, str]
    data: tuple[str, ...]


def score_segments(
    hypotheses: Sequence[str],
    references: Sequence[str],
    language: str,
    *,
    wordnet: Path | None = None,
) -> SegmentScores:
    """BLEU, METEOR and chrF as SloBench computes them.

    BLEU and METEOR count NLTK's words, so they need NLTK and its data. chrF does not, unless a line
    has straight quotes, which NLTK's tokeniser replaces.

    Args:
        language: of both, ``sl`` or ``en``.
        wordnet: folder of WordNet's files; by default the usual places are searched.

    Raises:
        ValueError: different numbers of lines, or none.
    """
    if len(hypotheses) != len(references) or not references:
        raise ValueError(f"{len(hypotheses)} hypotheses, {len(references)} references")
    pairs = list(zip(hypotheses, references, strict=True))
    missing: dict[str, str] = {}
    try:
        tokenise = load_tokeniser(language)
    except MissingDependencyError as error:
        missing["BLEU (avg)"] = missing["METEOR (avg)"] = missing[CORPUS_BLEU] = str(error)
        if any('"' in line for line in (*hypotheses, *references)):
            reason = f'lines hold straight quotes ("), which words spell otherwise: {error}'
            missing["CHRF (avg)"] = reason
            return SegmentScores({}, missing, ())
        return SegmentScores(
            {"CHRF (avg)": np.array([chrf(*pair) for pair in pairs])},
            missing,
            ("characters alone: no line has quotes that words would spell otherwise",),
        )
    data = [f"words as NLTK 3.6.6 cuts them ({language}), by NLTK {_nltk_version()}"]
    counts, chrf_scores = zip(*(_count_pair(tokenise, *pair) for pair in pairs), strict=True)
    table = np.array(counts, dtype=float)
    columns = {"BLEU (avg)": from_sums(table)}
    try:
        thesaurus = _default_wordnet() if wordnet is None else find_wordnet(wordnet)
        stem = porter_stemmer()
        words = [tuple(_tokenise(tokenise, text) for text in pair) for pair in pairs]
        columns["METEOR (avg)"] = np.array(
            [meteor_score(ours, theirs, stem, thesaurus.synonyms) for ours, theirs in words]
        )
        data.append(f"synonyms of {thesaurus.version or 'WordNet'} in {thesaurus.where}")
    except MissingDependencyError as error:
        missing["METEOR (avg)"] = str(error)
    columns |= {"CHRF (avg)": np.array(chrf_scores), CORPUS_BLEU: table}
    return SegmentScores(columns, missing, tuple(data))


@cache
def _default_wordnet() -> WordNet:
    """WordNet in its usual place, opened once: reading its index takes longer than METEOR."""
    return find_wordnet(None)


@lru_cache(maxsize=_CACHED_PAIRS)
def _count_pair(
    tokenise: Tokeniser, hypothesis: str, reference: str
) -> tuple[tuple[int, ...], float]:
    """Counts for BLEU, and chrF. Cached, since seeds of a method often agree on a segment."""
    ours, theirs = _tokenise(tokenise, hypothesis), _tokenise(tokenise, reference)
    return count_ngrams(ours, theirs), chrf(" ".join(ours), " ".join(theirs))


@lru_cache(maxsize=_CACHED_PAIRS)
def _tokenise(tokenise: Tokeniser, text: str) -> tuple[str, ...]:
    return tuple(tokenise(text))


def _nltk_version() -> str:
    from importlib.metadata import version

    return version("nltk")
