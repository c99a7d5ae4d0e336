"""Official scores of one submission, each with its interval over the examples.

A submission is one set of answers, so the variance over seeds is in no interval. Dependent examples
are left out together (:mod:`paretune.analysis.statistics.intervals`): MultiRC's answers by
passage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from paretune.analysis.statistics.differences import Estimate, estimate_variances
from paretune.analysis.statistics.intervals import Interval, confidence_interval
from paretune.analysis.statistics.multiple_testing import ALPHA
from paretune.analysis.statistics.scores import (
    RunScores,
    score_means,
    score_runs,
    score_sums,
)
from paretune.metrics import Array
from paretune.metrics.translation import SACREBLEU_NAMES
from paretune.store.record import Predictions
from paretune_slovene.slobench import nltk_ngrams
from paretune_slovene.slobench.official_scores import CORPUS_BLEU, LABELS, Answers, SegmentScores


def superglue_intervals(
    answers: Mapping[str, Answers], references: Mapping[str, Answers]
) -> dict[str, Interval]:
    """95 % intervals by SloBench's names; that of the average takes tasks for independent.

    Args:
        answers: for each task of :data:`~paretune_slovene.slobench.official_scores.LABELS`, every
            row's label.
        references: the correct labels of the same rows.
    """
    scores: dict[str, RunScores] = {}
    primary: list[RunScores] = []
    for task in LABELS:
        predictions = _to_predictions(task, answers[task], references[task])
        if task == "MultiRC":
            scores["MultiRC F1a Score"] = _f1a(predictions)
            scores["MultiRC EM"] = score_runs([_exact_match(predictions)], "accuracy")
            scores["MultiRC Average"] = score_runs([predictions], "f1a_em")
            primary.append(scores["MultiRC Average"])
            continue
        scores[f"{task} Accuracy"] = score_runs([predictions], "accuracy")
        primary.append(scores[f"{task} Accuracy"])
        if task == "CB":
            scores["CB F1 Score"] = score_runs([predictions], "macro_f1")
            scores["CB Average"] = score_runs([predictions], "accuracy_f1")
            primary[-1] = scores["CB Average"]
    intervals = {name: confidence_interval(score) for name, score in scores.items()}
    return {**intervals, "Average": _average_interval(primary)}


def segment_intervals(segments: SegmentScores, num_lines: int) -> dict[str, Interval]:
    """95 % intervals by SloBench's names; "CHRF (corpus)" equals "CHRF (avg)"."""
    lines = [_texts_to_predictions([""] * num_lines, [""] * num_lines)]
    intervals = {
        name: confidence_interval(
            score_sums(lines, [column], nltk_ngrams.from_sums)
            if name == CORPUS_BLEU
            else score_means(lines, [column])
        )
        for name, column in segments.columns.items()
    }
    if "CHRF (avg)" in intervals:
        intervals["CHRF (corpus)"] = intervals["CHRF (avg)"]
    return intervals


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean of one value per line, with its 95 % interval."""
    lines = [""] * len(values)
    predictions = [_texts_to_predictions(lines, lines)]
    return confidence_interval(score_means(predictions, [np.array(values)]))


def sacrebleu_intervals(
    translations: Sequence[str], references: Sequence[str]
) -> dict[str, Interval]:
    """SacreBLEU's scores by its own names, 0 to 100, with 95 % intervals."""
    predictions = [_texts_to_predictions(translations, references)]
    return {
        title: confidence_interval(score_runs(predictions, name))
        for name, title in SACREBLEU_NAMES.items()
    }


def _texts_to_predictions(translations: Sequence[str], references: Sequence[str]) -> Predictions:
    uid = tuple(str(i) for i in range(len(references)))
    return Predictions(uid, tuple(references), tuple(translations), ())


def _to_predictions(task: str, answers: Answers, references: Answers) -> Predictions:
    """Labels as indices; in MultiRC with questions, and passages as clusters."""
    keys = sorted(references, key=lambda key: key if isinstance(key, tuple) else (key,))
    label = tuple(LABELS[task].index(references[key]) for key in keys)
    answer = tuple(LABELS[task].index(answers[key]) for key in keys)
    uid = tuple(str(key) for key in keys)
    if task != "MultiRC":
        return Predictions(uid, label, answer, ())
    triples = [key if isinstance(key, tuple) else (key, key, key) for key in keys]
    numbers = {key: i for i, key in enumerate(dict.fromkeys(triple[:2] for triple in triples))}
    return Predictions(
        uid,
        label,
        answer,
        (),
        cluster=tuple(triple[0] for triple in triples),
        question=tuple(numbers[triple[:2]] for triple in triples),
    )


def _f1a(predictions: Predictions) -> RunScores:
    """F1 of label 1 over all answers; 0 if there is no 1 on either side."""
    label, answer = np.array(predictions.label), np.array(predictions.prediction)
    table = np.stack([(label == 1) & (answer == 1), answer == 1, label == 1], axis=1)

    def f1(sums: Array) -> Array:
        hits, predicted, actual = np.moveaxis(sums, -1, 0)
        total = predicted + actual
        return np.asarray(np.divide(2 * hits, total, out=np.zeros(total.shape), where=total > 0))

    score = score_sums([predictions], [table.astype(float)], f1)
    return replace(score, credit=(label == answer).astype(float))


def _exact_match(predictions: Predictions) -> Predictions:
    """Whether each question is answered without a fault, as predictions of label 1."""
    faultless: dict[int, bool] = {}
    passage: dict[int, int] = {}
    rows = zip(
        predictions.question,
        predictions.cluster,
        predictions.label,
        predictions.prediction,
        strict=True,
    )
    for question, cluster, label, answer in rows:
        faultless[question] = faultless.get(question, True) and label == answer
        passage[question] = cluster
    return Predictions(
        uid=tuple(map(str, faultless)),
        label=(1,) * len(faultless),
        prediction=tuple(map(int, faultless.values())),
        scores=(),
        cluster=tuple(passage.values()),
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
