"""SloBench's numbers of one submission, each with its interval over the examples it answers.

A submission is one set of answers, whatever made it: seeds are in no interval. As everywhere, what
belongs together is drawn together (:mod:`paretune.analysis.interval`): MultiRC's answers by
passage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from paretune.analysis.cochran import half_width
from paretune.analysis.interval import (
    LEVEL,
    Interval,
    Scored,
    example_variance,
    interval_of,
    scored,
    scored_means,
    scored_sums,
)
from paretune.analysis.scores import Array
from paretune.metrics import ngrams
from paretune.metrics.slobench import CORPUS, LABELS, Answers, Segments
from paretune.store.record import Predictions

PUBLIC = {"BLEU": "bleu", "chrF2": "chrf", "TER": "ter"}
"""sacreBLEU's names, and ours."""


def of_superglue(
    answers: Mapping[str, Answers], references: Mapping[str, Answers]
) -> dict[str, Interval]:
    """By SloBench's names, 95 %; the average over tasks takes them for independent of one another.

    Args:
        answers: for each of :data:`~paretune.metrics.slobench.LABELS`, every row's label.
        references: the right ones; the same rows.
    """
    found: dict[str, Interval] = {}
    primary: list[Scored] = []
    for task in LABELS:
        given = _predictions(task, answers[task], references[task])
        if task == "MultiRC":
            found["MultiRC F1a Score"] = interval_of(_f1a(given))
            found["MultiRC EM"] = interval_of(scored([_whole(given)], "accuracy"))
            primary.append(scored([given], "f1a_em"))
            found["MultiRC Average"] = interval_of(primary[-1])
            continue
        accuracy = scored([given], "accuracy")
        found[f"{task} Accuracy"] = interval_of(accuracy)
        primary.append(accuracy)
        if task == "CB":
            found["CB F1 Score"] = interval_of(scored([given], "macro_f1"))
            primary[-1] = scored([given], "accuracy_f1")
            found["CB Average"] = interval_of(primary[-1])
    return {**found, "Average": _mean(primary)}


def of_segments(found: Segments, lines: int) -> dict[str, Interval]:
    """By SloBench's names; of "CHRF (corpus)" that of "CHRF (avg)", which it is."""
    one = [_texts([""] * lines, [""] * lines)]
    intervals = {
        name: interval_of(
            scored_sums(one, [column], ngrams.from_sums)
            if name == CORPUS
            else scored_means(one, [column])
        )
        for name, column in found.columns.items()
    }
    if "CHRF (avg)" in intervals:
        intervals["CHRF (corpus)"] = intervals["CHRF (avg)"]
    return intervals


def of_values(values: Sequence[float]) -> Interval:
    """Of the mean of one value for each line."""
    lines = [""] * len(values)
    return interval_of(scored_means([_texts(lines, lines)], [np.array(values)]))


def of_texts(translations: Sequence[str], references: Sequence[str]) -> dict[str, Interval]:
    """By sacreBLEU's names, its scores, 0 to 100."""
    given = _texts(translations, references)
    return {name: interval_of(scored([given], ours)) for name, ours in PUBLIC.items()}  # type: ignore[arg-type]


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


def _f1a(given: Predictions) -> Scored:
    """F1 of right answers; 0 where nothing is right and nothing is called right."""
    label, answer = np.array(given.label), np.array(given.prediction)
    table = np.stack([(label == 1) & (answer == 1), answer == 1, label == 1], axis=1)

    def f1(sums: Array) -> Array:
        hit, said, true = np.moveaxis(sums, -1, 0)
        both = said + true
        return np.asarray(np.divide(2 * hit, both, out=np.zeros(both.shape), where=both > 0))

    found = scored_sums([given], [table.astype(float)], f1)
    return replace(found, right=(label == answer).astype(float))


def _whole(given: Predictions) -> Predictions:
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


def _mean(cells: Sequence[Scored]) -> Interval:
    """Of the mean over tasks: variances add, the fewest units give the degrees of freedom."""
    variance = sum(example_variance(cell) for cell in cells) / len(cells) ** 2
    estimate = float(np.mean([cell.estimate for cell in cells]))
    fewest = min(cell.units for cell in cells)
    half = float(half_width(0.0, 1, variance, fewest, LEVEL)) if fewest > 1 else 1.0
    return Interval(
        estimate=estimate,
        low=max(0.0, estimate - half),
        high=min(1.0, estimate + half),
        n_examples=sum(len(cell.uid) for cell in cells),
        n_seeds=1,
        share_seeds=0.0,
    )
