"""SloBench's official scores with their intervals: of SuperGLUE answers and of translations.

A reimplementation of its evaluators (github.com/clarinsi/slobench-eval-docker, NLTK 3.6.6), equal
to 1e-9. All scores are in 0..1, under SloBench's names. Intervals are 95 % over examples, and over
seeds where there are several; dependent examples are left out together
(:mod:`paretune.analysis.statistics.intervals`): MultiRC's answers by passage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paretune.analysis.statistics.differences import Estimate, estimate_variances
from paretune.analysis.statistics.intervals import Interval, confidence_interval
from paretune.analysis.statistics.multiple_testing import ALPHA
from paretune.analysis.statistics.scores import RunScores, score_means, score_runs, score_sums
from paretune.errors import MissingDependencyError
from paretune.store.record import Predictions
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
TRANSLATION_SCORES = ("BLEU (avg)", "METEOR (avg)", "CHRF (avg)", CORPUS_BLEU)
"""In SloBench's order. Its table also has BERTScore, which needs a model, before them, and
"CHRF (corpus)", which equals "CHRF (avg)", after them."""
_CACHED_PAIRS = 1 << 17


def score_superglue(
    answers: Mapping[str, Answers], references: Mapping[str, Answers]
) -> dict[str, Interval]:
    """Scores of the six tasks and their average, which takes tasks for independent.

    Args:
        answers: for each task of :data:`LABELS`, every row's label.
        references: the correct labels of the same rows.
    """
    scores: dict[str, RunScores] = {}
    primary: list[RunScores] = []
    for task in LABELS:
        runs = [_to_predictions(task, answers[task], references[task])]
        if task == "MultiRC":
            scores["MultiRC F1a Score"] = score_runs(runs, "f1a")
            scores["MultiRC EM"] = score_runs(runs, "em")
            scores["MultiRC Average"] = score_runs(runs, "f1a_em")
        else:
            scores[f"{task} Accuracy"] = score_runs(runs, "accuracy")
        if task == "CB":
            scores["CB F1 Score"] = score_runs(runs, "macro_f1")
            scores["CB Average"] = score_runs(runs, "accuracy_f1")
        primary.append([*scores.values()][-1])
    intervals = {name: confidence_interval(score) for name, score in scores.items()}
    return {**intervals, "Average": _average_interval(primary)}


def _to_predictions(task: str, answers: Answers, references: Answers) -> Predictions:
    """Labels as indices; in MultiRC with questions, and passages as clusters."""
    keys = sorted(references, key=lambda key: key if isinstance(key, tuple) else (key,))
    label, answer = (
        tuple(LABELS[task].index(side[key]) for key in keys) for side in (references, answers)
    )
    triples = [key for key in keys if isinstance(key, tuple)]
    questions = {question: i for i, question in enumerate(dict.fromkeys(t[:2] for t in triples))}
    return Predictions(
        tuple(map(str, keys)),
        label,
        answer,
        (),
        cluster=tuple(passage for passage, _, _ in triples),
        question=tuple(questions[triple[:2]] for triple in triples),
    )


def _average_interval(scores: Sequence[RunScores]) -> Interval:
    """The mean over tasks: variances add, the fewest units give the degrees of freedom."""
    variance = sum(estimate_variances(score).variance for score in scores) / len(scores) ** 2
    estimate = float(np.mean([score.estimate for score in scores]))
    fewest = min(score.units for score in scores)
    half = min(Estimate(estimate, variance, ((variance, fewest - 1.0),)).half_width(ALPHA), 1.0)
    return Interval(
        estimate=estimate,
        low=max(0.0, estimate - half),
        high=min(1.0, estimate + half),
        n_examples=sum(len(score.uid) for score in scores),
        n_seeds=1,
        share_seeds=0.0,
    )


def make_text_predictions(texts: Sequence[str], references: Sequence[str]) -> Predictions:
    """One set of translations as what the statistics read."""
    return Predictions(tuple(map(str, range(len(texts)))), tuple(references), tuple(texts), ())


@dataclass(frozen=True)
class TranslationScores:
    """Official scores of translations.

    Attributes:
        intervals: by name.
        missing: the reason for each score that could not be computed.
        data: what they were computed from, as phrases.
    """

    intervals: dict[str, Interval]
    missing: dict[str, str]
    data: tuple[str, ...]


def score_translations(
    predictions: Sequence[Predictions], language: str, *, wordnet: Path | None = None
) -> TranslationScores:
    """Means over seeds; a score that one seed lacks is missing.

    Args:
        predictions: texts of each seed.
        language, wordnet: as of :func:`score_segments`.
    """
    seeds = [
        score_segments(
            list(map(str, seed.prediction)), list(map(str, seed.label)), language, wordnet=wordnet
        )
        for seed in predictions
    ]
    missing = {name: reason for seed in seeds for name, reason in seed.missing.items()}
    intervals = {}
    for name in TRANSLATION_SCORES:
        if name not in missing:
            columns = [seed.columns[name] for seed in seeds]
            intervals[name] = confidence_interval(
                score_sums(predictions, columns, from_sums)
                if name == CORPUS_BLEU
                else score_means(predictions, columns)
            )
    return TranslationScores(intervals, missing, seeds[0].data)


@dataclass(frozen=True)
class SegmentScores:
    """Scores of a translation, segment by segment: what a bootstrap over segments resamples.

    Attributes:
        columns: by SloBench's names. The official score is the mean of a column (segments,); of
            :data:`CORPUS_BLEU` it is :func:`~paretune_slovene.slobench.nltk_ngrams.from_sums` of
            the sum of the column (segments, counts).
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
    data = [f"words as NLTK 3.6.6 cuts them ({language}), by NLTK {version('nltk')}"]
    counts, chrf_scores = zip(*(_count_pair(tokenise, *pair) for pair in pairs), strict=True)
    table = np.array(counts, dtype=float)
    columns = {"BLEU (avg)": from_sums(table)}
    try:
        thesaurus = _default_wordnet() if wordnet is None else find_wordnet(wordnet)
        stem = porter_stemmer()
        words = [tuple(_tokenise(tokenise, text) for text in pair) for pair in pairs]
        columns["METEOR (avg)"] = np.array(
            [_meteor(*pair, stem, thesaurus.synonyms) for pair in words]
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


_meteor = lru_cache(maxsize=_CACHED_PAIRS)(meteor_score)
