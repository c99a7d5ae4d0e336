"""SloBench's official scores with their intervals: of SuperGLUE answers and of translations.

A reimplementation of its evaluators (github.com/clarinsi/slobench-eval-docker, NLTK 3.6.6), equal
to 1e-9. All scores are in 0..1, under SloBench's names. Intervals are 95 % over examples, and over
seeds where there are several; dependent examples are left out together
(:mod:`paretune.analysis.statistics.intervals`): MultiRC's answers by passage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
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
from paretune_slovene.metrics.meteor import Meteor, load_meteor
from paretune_slovene.metrics.nltk_words import Tokeniser, load_tokeniser
from paretune_slovene.metrics.wordnet import open_wordnet
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
"""In SloBench's order, between BERTScore and "CHRF (corpus)", which equals "CHRF (avg)"."""


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
    """BLEU, METEOR and chrF as SloBench computes them, as means over seeds.

    BLEU and METEOR count NLTK's words, so they need NLTK and its data. chrF does not, unless a line
    has straight quotes, which NLTK's tokeniser replaces.

    Args:
        predictions: texts of each seed, and the references.
        language: of both, ``sl`` or ``en``.
        wordnet: folder of WordNet's files; by default the usual places are searched.
    """
    seeds = [[*zip(map(str, p.prediction), map(str, p.label), strict=True)] for p in predictions]
    missing: dict[str, str] = {}
    meteor: Meteor | None = None
    try:
        tokenise = load_tokeniser(language)
        data = [f"words as NLTK 3.6.6 cuts them ({language}), by NLTK {version('nltk')}"]
        try:
            thesaurus = open_wordnet(wordnet)
            meteor = load_meteor(thesaurus.synonyms)
            data.append(f"synonyms of {thesaurus.version or 'WordNet'} in {thesaurus.where}")
        except MissingDependencyError as error:
            missing["METEOR (avg)"] = str(error)
    except MissingDependencyError as error:
        tokenise, data = str.split, []
        missing = dict.fromkeys(TRANSLATION_SCORES, str(error))
        reason = f'lines hold straight quotes ("), which words spell otherwise: {error}'
        missing["CHRF (avg)"] = reason
        if not any('"' in line for seed in seeds for pair in seed for line in pair):
            del missing["CHRF (avg)"]
            data = ["characters alone: no line has quotes that words would spell otherwise"]
    tables: dict[str, list[NDArray[Any]]] = {name: [] for name in TRANSLATION_SCORES}
    for seed in seeds:
        scores = [_score_pair(tokenise, meteor, *pair) for pair in seed]
        counts, meteors, chrfs = (np.array(c, dtype=float) for c in zip(*scores, strict=True))
        for name, column in zip(tables, (from_sums(counts), meteors, chrfs, counts), strict=True):
            tables[name].append(column)
    intervals = {
        name: confidence_interval(
            score_sums(predictions, columns, from_sums)
            if name == CORPUS_BLEU
            else score_means(predictions, columns)
        )
        for name, columns in tables.items()
        if name not in missing
    }
    return TranslationScores(intervals, missing, tuple(data))


@lru_cache(maxsize=1 << 17)
def _score_pair(
    tokenise: Tokeniser, meteor: Meteor | None, hypothesis: str, reference: str
) -> tuple[tuple[int, ...], float, float]:
    """Counts for BLEU, METEOR and chrF. Cached, since seeds of a method often agree."""
    pair = tokenise(hypothesis), tokenise(reference)
    return (
        count_ngrams(*map(tuple, pair)),
        meteor(*pair) if meteor else 0.0,
        chrf(*map(" ".join, pair)),
    )
