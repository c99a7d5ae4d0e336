"""SloBench's numbers of one submission, each with its interval over the examples it answers.

A submission is one set of answers, whatever made it: seeds are in no interval. As everywhere, what
belongs together is drawn together (:mod:`paretune.analysis.statistics.score_interval`): MultiRC's
answers by passage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from paretune.analysis.statistics.cochran_cox import cochran_cox_half_width
from paretune.analysis.statistics.score_interval import (
    LEVEL,
    BootstrapScore,
    Interval,
    bootstrap_means,
    bootstrap_score,
    bootstrap_sums,
    confidence_interval,
    example_variance,
)
from paretune.contrib.slobench import nltk_ngrams
from paretune.contrib.slobench.official_scores import CORPUS_BLEU, LABELS, Answers, SegmentScores
from paretune.metrics import Array
from paretune.metrics.translation import SACREBLEU_NAMES
from paretune.store.record import Predictions


def superglue_intervals(
    answers: Mapping[str, Answers], references: Mapping[str, Answers]
) -> dict[str, Interval]:
    """By SloBench's names, 95 %; the average over tasks takes them for independent of one another.

    Args:
        answers: for each of :data:`~paretune.contrib.slobench.official_scores.LABELS`, every row's
            label.
        references: the right ones; the same rows.
    """
    found: dict[str, Interval] = {}
    primary: list[BootstrapScore] = []
    for task in LABELS:
        given = _predictions(task, answers[task], references[task])
        if task == "MultiRC":
            found["MultiRC F1a Score"] = confidence_interval(_f1a(given))
            found["MultiRC EM"] = confidence_interval(
                bootstrap_score([_exact_match(given)], "accuracy")
            )
            primary.append(bootstrap_score([given], "f1a_em"))
            found["MultiRC Average"] = confidence_interval(primary[-1])
            continue
        accuracy = bootstrap_score([given], "accuracy")
        found[f"{task} Accuracy"] = confidence_interval(accuracy)
        primary.append(accuracy)
        if task == "CB":
            found["CB F1 Score"] = confidence_interval(bootstrap_score([given], "macro_f1"))
            primary[-1] = bootstrap_score([given], "accuracy_f1")
            found["CB Average"] = confidence_interval(primary[-1])
    return {**found, "Average": _average_interval(primary)}


def segment_intervals(found: SegmentScores, lines: int) -> dict[str, Interval]:
    """By SloBench's names; of "CHRF (corpus)" that of "CHRF (avg)", which it is."""
    one = [_texts([""] * lines, [""] * lines)]
    intervals = {
        name: confidence_interval(
            bootstrap_sums(one, [column], nltk_ngrams.from_sums)
            if name == CORPUS_BLEU
            else bootstrap_means(one, [column])
        )
        for name, column in found.columns.items()
    }
    if "CHRF (avg)" in intervals:
        intervals["CHRF (corpus)"] = intervals["CHRF (avg)"]
    return intervals


def mean_interval(values: Sequence[float]) -> Interval:
    """Of the mean of one value for each line."""
    lines = [""] * len(values)
    return confidence_interval(bootstrap_means([_texts(lines, lines)], [np.array(values)]))


def sacrebleu_intervals(
    translations: Sequence[str], references: Sequence[str]
) -> dict[str, Interval]:
    """SacreBLEU's scores by its own names, 0 to 100."""
    given = _texts(translations, references)
    return {
        title: confidence_interval(bootstrap_score([given], name))
        for name, title in SACREBLEU_NAMES.items()
    }


def _texts(translations: Sequence[str], references: Sequence[str]) -> Predictions:
    uid = tuple(str(i) for i in range(len(references)))
    return Predictions(uid, tuple(references), tuple(translations), ())


def _predictions(task: str, given: Answers, right: Answers) -> Predictions:
    """Labels by their place; of MultiRC with questions and, as clusters, passages."""
    keys = sorted(right, key=lambda key: key if isinstance(key, tuple) else (key,))
    label = tuple(LABELS[task].index(right[key]) for key in keys)
    answer = tuple(LABELS[task].index(given[key]) for key in keys)
    uid = tuple(str(key) for key in keys)
    if task != "MultiRC":
        return Predictions(uid, label, answer, ())
    parts = [key if isinstance(key, tuple) else (key, key, key) for key in keys]
    questions = {asked: i for i, asked in enumerate(dict.fromkeys(part[:2] for part in parts))}
    return Predictions(
        uid,
        label,
        answer,
        (),
        cluster=tuple(part[0] for part in parts),
        question=tuple(questions[part[:2]] for part in parts),
    )


def _f1a(given: Predictions) -> BootstrapScore:
    """F1 of right answers; 0 where nothing is right and nothing is called right."""
    label, answer = np.array(given.label), np.array(given.prediction)
    table = np.stack([(label == 1) & (answer == 1), answer == 1, label == 1], axis=1)

    def f1(sums: Array) -> Array:
        hit, said, true = np.moveaxis(sums, -1, 0)
        both = said + true
        return np.asarray(np.divide(2 * hit, both, out=np.zeros(both.shape), where=both > 0))

    found = bootstrap_sums([given], [table.astype(float)], f1)
    return replace(found, credit=(label == answer).astype(float))


def _exact_match(given: Predictions) -> Predictions:
    """Whether each question is answered without a fault, as answers of their own."""
    fine: dict[int, bool] = {}
    passage: dict[int, int] = {}
    rows = zip(given.question, given.cluster, given.label, given.prediction, strict=True)
    for question, cluster, label, answer in rows:
        fine[question] = fine.get(question, True) and label == answer
        passage[question] = cluster
    uid, ones = tuple(map(str, fine)), (1,) * len(fine)
    answers = tuple(int(one) for one in fine.values())
    return Predictions(uid, ones, answers, (), cluster=tuple(passage.values()))


def _average_interval(cells: Sequence[BootstrapScore]) -> Interval:
    """Of the mean over tasks: variances add, the fewest units give the degrees of freedom."""
    variance = sum(example_variance(cell) for cell in cells) / len(cells) ** 2
    estimate = float(np.mean([cell.estimate for cell in cells]))
    fewest = min(cell.units for cell in cells)
    half = float(cochran_cox_half_width(0.0, 1, variance, fewest, LEVEL)) if fewest > 1 else 1.0
    return Interval(
        estimate=estimate,
        low=max(0.0, estimate - half),
        high=min(1.0, estimate + half),
        n_examples=sum(len(cell.uid) for cell in cells),
        n_seeds=1,
        share_seeds=0.0,
    )
