"""Test examples on which methods differ, for every pair of a task: labels, and translations.

**Labels.** Two methods are compared run by run: same seed, same examples. The single run of a
deterministic baseline is compared with every run of the other. Of the examples on which the
majority answers over seeds differ, those with the clearest difference are listed.

**Translations.** The score of a segment is sacreBLEU's chrF of it alone, 0 to 100, mean over seeds.
Two configurations are compared by these means; counts are over pairs of runs, as of labels. The
outputs of a shown segment are those of one pair of runs: the one whose difference is nearest to
that of the means. The sources are the outputs of the baseline ``copy_source``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from paretune.metrics.translation import CHRF
from paretune.reporting.parts import (
    AgreementCounts,
    AnsweredSide,
    ComparedSide,
    DifferingSegment,
    Disagreement,
    SegmentCounts,
    SegmentDifferences,
)
from paretune.reporting.rows import CellRow
from paretune.store.record import Predictions
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line

MAX_LISTED = 25
"""Examples that are listed for one pair."""
MAX_EXAMPLES = 2000
"""Examples of one task on the page, for all its pairs together."""
MAX_SHOWN = 10
"""Segments that are shown of one pair."""
MAX_SEGMENTS = 600
"""Segments on the page, for all pairs of all tasks together: at most 1 MB."""
MAX_CHARACTERS = 400
"""Characters that are shown of a text."""
_EQUAL = 1e-9
"""Differences of chrF that are none."""

IntArray = NDArray[np.int64]
Scores = NDArray[np.float64]
Of = TypeVar("Of")


def find_disagreements(all_rows: Sequence[CellRow]) -> Disagreement | None:
    """Compare every pair of a task's configurations.

    Returns:
        None where answers are no labels, or for fewer than two configurations.
    """
    rows, parts = _group_common_answers([r for r in all_rows if r.cell.objective.predicts_labels])
    if len(rows) < 2:
        return None
    first = next(iter(parts[0].values()))
    label = np.array(first.label, dtype=np.int64)
    answers = [
        {seed: np.array(p.prediction, dtype=np.int64) for seed, p in by_seed.items()}
        for by_seed in parts
    ]
    majority = np.stack([_majority_answers(by_seed) for by_seed in answers])
    right = [{seed: answer == label for seed, answer in by_seed.items()} for by_seed in answers]
    share_right = [np.mean(list(by_seed.values()), axis=0) for by_seed in right]
    orders = {
        (a, b): _order_differing(majority[a] != majority[b], share_right[a] - share_right[b])
        for a, b in combinations(range(len(rows)), 2)
    }
    # In data order; of too many those of most pairs.
    counts = Counter(int(i) for order in orders.values() for i in order[:MAX_LISTED])
    listed = sorted(sorted(counts, key=lambda i: (-counts[i], i))[:MAX_EXAMPLES])
    unit = "answers" if first.question else "examples"
    pairs = []
    for (a, b), order in orders.items():
        matched = _match_seeds(rows[a], right[a], rows[b], right[b])
        named = tuple(listed.index(i) for i in order[:MAX_LISTED] if i in listed)
        listing = "; all are listed, the clearest difference first" if named else ""
        if left := len(order) - len(named):
            listing = (
                f"; the {len(named)} with the clearest difference are listed, {left:,} are left out"
            )
        pairs.append(
            AgreementCounts(
                **_count_pair(a, b, matched, f"{len(label):,} test {unit}", order),
                both=sum(int((x & y).sum()) for x, y in matched),
                neither=sum(int((~x & ~y).sum()) for x, y in matched),
                named=named,
                summary=f"Majority answers over seeds differ on {len(order):,} of {len(label):,} "
                f"test {unit}{listing}.",
            )
        )
    return Disagreement(
        n=len(label),
        unit=unit,
        sides=tuple(
            AnsweredSide(
                name=row.report.title,
                seeds=len(by_seed),
                answers=tuple(int(answer) for answer in majority[i][listed]),
                right=tuple(int(count) for count in sum(by_seed.values())[listed]),
            )
            for i, (row, by_seed) in enumerate(zip(rows, right, strict=True))
        ),
        pairs=tuple(pairs),
        examples=tuple((sanitise_line(first.uid[i]), int(label[i])) for i in listed),
        labels=(*_name_labels(rows[0], int(max(label.max(), majority.max()))), "no label"),
        default_pair=_choose_default_pair(rows, list(orders)),
    )


def _group_common_answers(
    all_rows: Sequence[CellRow],
) -> tuple[list[CellRow], list[Mapping[int, Predictions]]]:
    """The largest group of rows that answered the same examples, and their answers by seed."""
    answered = [
        (row, {seed: by_seed[seed].predictions for seed in by_seed})
        for row in all_rows
        if (by_seed := row.cell.group_answers(row.cell.final))
    ]
    groups = Counter(next(iter(answers.values())).uid for _, answers in answered)
    largest = groups.most_common(1)[0][0] if groups else ()
    comparable = [pair for pair in answered if next(iter(pair[1].values())).uid == largest]
    return [row for row, _ in comparable], [answers for _, answers in comparable]


def _match_seeds(
    a: CellRow, values_a: Mapping[int, Of], b: CellRow, values_b: Mapping[int, Of]
) -> list[tuple[Of, Of]]:
    """Pairs of what two configurations have for the same seed.

    A deterministic configuration has one run, which is paired with every run of the other.
    """
    if a.cell.deterministic or b.cell.deterministic:
        return list(product(values_a.values(), values_b.values()))
    return [(value, values_b[seed]) for seed, value in values_a.items() if seed in values_b]


def _majority_answers(answers: Mapping[int, IntArray]) -> IntArray:
    """The answer of most seeds to each example, the first seed's where tied; (examples,)."""
    by_seed = np.stack(list(answers.values()))
    votes = (by_seed[:, None, :] == by_seed[None, :, :]).sum(axis=1)
    majority: IntArray = np.take_along_axis(by_seed, votes.argmax(axis=0)[None, :], axis=0)[0]
    return majority


def _order_differing(differ: NDArray[np.bool_], margin: NDArray[np.float64]) -> list[int]:
    """Indices of the examples that differ, the largest margin first, then as in the data."""
    indices = np.flatnonzero(differ)
    order: list[int] = indices[np.argsort(-np.abs(margin[indices]), kind="stable")].tolist()
    return order


def _count_pair(
    a: int, b: int, matched: Sequence[tuple[Scores, Scores]], counted: str, order: Sequence[int]
) -> dict[str, Any]:
    """The fields of a :class:`ComparedPair`.

    Args:
        matched: scores of the examples by both, for each pair of runs; whether they are right
            counts as 1 and 0.
        counted: the examples in words.
        order: the examples that differ.
    """
    basis = f"{counted} × {pluralise(len(matched), 'pair')} of runs"
    return {
        "a": a,
        "b": b,
        "runs": len(matched),
        "basis": basis if matched else "no seed that both have: nothing can be counted",
        "only_a": sum(int((x > y + _EQUAL).sum()) for x, y in matched),
        "only_b": sum(int((y > x + _EQUAL).sum()) for x, y in matched),
        "differing": len(order),
    }


def _choose_default_pair(rows: Sequence[CellRow], pairs: Sequence[tuple[int, int]]) -> int:
    """Place of the pair of the two highest methods; baselines only without two methods."""
    scores = [row.cell.interval.estimate if row.cell.interval else 0.0 for row in rows]
    order = sorted(range(len(rows)), key=lambda i: (rows[i].cell.baseline, -scores[i], i))
    return next(place for place, pair in enumerate(pairs) if set(pair) == set(order[:2]))


def _name_labels(row: CellRow, highest: int) -> tuple[str, ...]:
    """Names of the labels, from the study or the built-in task; numbers where they do not fit."""
    from paretune import tasks

    task = row.cell.final[0].run.task
    names = task.labels
    if not task.has_own_data and task.name in tasks.names():
        names = tasks.get(task.name).labels
    if highest >= len(names or ()):
        return tuple(str(index) for index in range(highest + 1))
    return tuple(map(sanitise_line, names or ()))


def find_segment_differences(
    all_rows: Sequence[CellRow], languages: tuple[str, str], most: int = MAX_SEGMENTS
) -> SegmentDifferences | None:
    """Compare every pair of configurations of a translation; None for fewer than two.

    Args:
        most: maximum number of segments of all pairs together, but one of each pair.
    """
    rows, outputs = _group_common_answers(all_rows)
    if len(rows) < 2:
        return None
    scores = [{seed: _score_segments(p) for seed, p in by_seed.items()} for by_seed in outputs]
    means = [np.mean(list(by_seed.values()), axis=0) for by_seed in scores]
    copied = (r.cell.test_answers[0].prediction for r in rows if r.cell.name == "copy_source")
    sources = tuple(map(str, next(copied, ())))
    texts: dict[str, int] = {}
    pairs = list(combinations(range(len(rows)), 2))
    room = max(1, min(MAX_SHOWN, most // len(pairs)))

    def place(text: str) -> int:
        return texts.setdefault(_shorten(text), len(texts))

    def select(a: int, b: int, i: int, runs: Sequence[tuple[int, int]]) -> DifferingSegment:
        """Segment ``i``, from the pair of runs that is nearest to the mean difference."""
        difference = means[a][i] - means[b][i]
        seeds = min(
            runs, key=lambda s: abs(scores[a][s[0]][i] - scores[b][s[1]][i] - difference).item()
        )
        output_a, output_b = outputs[a][seeds[0]], outputs[b][seeds[1]]
        return DifferingSegment(
            uid=_shorten(output_a.uid[i]),
            source=place(sources[i]) if sources else None,
            reference=place(str(output_a.label[i])),
            outputs=(place(str(output_a.prediction[i])), place(str(output_b.prediction[i]))),
            seeds=seeds,
            scores=(_tenth(scores[a][seeds[0]][i]), _tenth(scores[b][seeds[1]][i])),
            means=(_tenth(means[a][i]), _tenth(means[b][i])),
        )

    compared = []
    for a, b in pairs:
        gap = means[a] - means[b]
        order = _order_differing(np.abs(gap) > _EQUAL, gap)
        seeds = _match_seeds(rows[a], {s: s for s in scores[a]}, rows[b], {s: s for s in scores[b]})
        matched = [(scores[a][seed_a], scores[b][seed_b]) for seed_a, seed_b in seeds]
        # The first run of each where they share no seed.
        runs = seeds or [(min(scores[a]), min(scores[b]))]
        segments = tuple(select(a, b, i, runs) for i in order[:room])
        segment_count = f"{len(gap):,} test segments"
        summary = f"The means over seeds differ on {len(order):,} of {segment_count}"
        if segments:
            summary += f"; the {len(segments)} with the largest difference are shown"
        compared.append(
            SegmentCounts(
                **_count_pair(a, b, matched, segment_count, order),
                equal=sum(int((np.abs(x - y) <= _EQUAL).sum()) for x, y in matched),
                segments=segments,
                summary=f"{summary}.",
            )
        )
    # A code that HTML knows, as `sl`; not `slv_Latn`.
    source, target = (code if re.fullmatch("[a-z]{2}", code) else "" for code in languages)
    return SegmentDifferences(
        n=len(means[0]),
        sides=tuple(
            ComparedSide(name=row.report.title, seeds=len(by_seed))
            for row, by_seed in zip(rows, outputs, strict=True)
        ),
        pairs=tuple(compared),
        texts=tuple(texts),
        languages=(source, target),
        cut=any(text.endswith(_CUT) for text in texts),
        default_pair=_choose_default_pair(rows, pairs),
    )


_CUT = " […]"


def _shorten(text: str) -> str:
    """Printable, and at most :data:`MAX_CHARACTERS` long."""
    return sanitise_line(text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}{_CUT}")


def _score_segments(predictions: Predictions) -> Scores:
    """SacreBLEU's chrF of each segment alone, 0 to 100; (segments,)."""
    texts, references = (tuple(map(str, of)) for of in (predictions.prediction, predictions.label))
    return CHRF.from_sums(CHRF.statistics(references, [texts], ())[0])


def _tenth(value: float) -> float:
    return round(float(value), 1)
