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
from dataclasses import dataclass
from itertools import combinations, product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from paretune.metrics.translation import CHRF
from paretune.reporting.parts import (
    AgreementCounts,
    AnsweredSide,
    DifferingSegment,
    Disagreement,
    SegmentCounts,
    SegmentDifferences,
    TranslatingSide,
)
from paretune.reporting.rows import Row
from paretune.reporting.text.escape import dump_script_json
from paretune.store.record import Predictions
from paretune.terminal.sanitise import sanitise_line

MAX_LISTED = 25
"""Examples that are listed for one pair."""
MAX_EXAMPLES = 2000
"""Examples of one task on the page, for all its pairs together."""

MAX_SHOWN = 10
"""Segments that are shown of one pair."""
MAX_CHARACTERS = 400
"""Characters that are shown of a text."""
PAGE_BYTES = 1_500_000
"""Maximum size of the texts of all tasks on the page."""
_SEGMENT_BYTES = 60
"""Approximate size of a shown segment without its texts."""
_EQUAL = 1e-9
"""Differences of chrF that are none."""

IntArray = NDArray[np.int64]
Scores = NDArray[np.float64]
Of = TypeVar("Of")


def find_disagreements(all_rows: Sequence[Row]) -> Disagreement | None:
    """Compare every pair of a task's configurations.

    Returns:
        None where answers are no labels, or for fewer than two configurations.
    """
    rows = rows_on_common_examples([r for r in all_rows if r.cell.objective.predicts_labels])
    if len(rows) < 2:
        return None
    first = next(iter(rows[0].cell.group_answers(rows[0].cell.final).values()))
    label = np.array(first.label, dtype=np.int64)
    answers = [
        {
            seed: np.array(p.prediction, dtype=np.int64)
            for seed, p in row.cell.group_answers(row.cell.final).items()
        }
        for row in rows
    ]
    majority = np.stack([_majority_answers(by_seed) for by_seed in answers])
    right = [{seed: answer == label for seed, answer in by_seed.items()} for by_seed in answers]
    share_right = np.stack([np.mean(list(by_seed.values()), axis=0) for by_seed in right])
    ordered = {
        (a, b): _order_differing(majority[a] != majority[b], share_right[a] - share_right[b])
        for a, b in combinations(range(len(rows)), 2)
    }
    listed = _select_examples([examples[:MAX_LISTED] for examples in ordered.values()])
    index = {int(example): i for i, example in enumerate(listed)}
    pairs = tuple(
        AgreementCounts(
            a=a,
            b=b,
            **_count_agreement(match_seeds(rows[a], right[a], rows[b], right[b])),
            differing=len(examples),
            named=tuple(index[int(i)] for i in examples[:MAX_LISTED] if int(i) in index),
        )
        for (a, b), examples in ordered.items()
    )
    return Disagreement(
        n=len(label),
        unit="answers" if first.question else "examples",
        sides=tuple(
            AnsweredSide(
                name=row.title,
                seeds=len(right[i]),
                answers=tuple(int(answer) for answer in majority[i][listed]),
                right=tuple(int(count) for count in sum(right[i].values())[listed]),
            )
            for i, row in enumerate(rows)
        ),
        pairs=pairs,
        examples=tuple((sanitise_line(first.uid[i]), int(label[i])) for i in listed),
        labels=_find_label_names(rows[0], int(max(label.max(), majority.max()))),
        default_pair=_choose_default_pair(rows, [(pair.a, pair.b) for pair in pairs]),
    )


def rows_on_common_examples(rows: Sequence[Row]) -> list[Row]:
    """The largest group of rows that answered the same examples."""
    answered = [row for row in rows if row.cell.group_answers(row.cell.final)]
    groups = Counter(
        next(iter(row.cell.group_answers(row.cell.final).values())).uid for row in answered
    )
    largest = groups.most_common(1)[0][0] if groups else ()
    return [
        row
        for row in answered
        if next(iter(row.cell.group_answers(row.cell.final).values())).uid == largest
    ]


def match_seeds(
    a: Row, of_a: Mapping[int, Of], b: Row, of_b: Mapping[int, Of]
) -> list[tuple[Of, Of]]:
    """Pairs of what two configurations have for the same seed.

    A deterministic configuration has one run, which is paired with every run of the other.
    """
    if a.cell.deterministic or b.cell.deterministic:
        return list(product(of_a.values(), of_b.values()))
    return [(value, of_b[seed]) for seed, value in of_a.items() if seed in of_b]


def _majority_answers(answers: Mapping[int, IntArray]) -> IntArray:
    """The answer of most seeds to each example, the first seed's where tied; (examples,)."""
    by_seed = np.stack(list(answers.values()))
    votes = (by_seed[:, None, :] == by_seed[None, :, :]).sum(axis=1)
    majority: IntArray = np.take_along_axis(by_seed, votes.argmax(axis=0)[None, :], axis=0)[0]
    return majority


def _order_differing(differ: NDArray[np.bool_], margin: NDArray[np.float64]) -> IntArray:
    """Indices of the examples that differ, the largest margin first, then as in the data."""
    indices = np.flatnonzero(differ)
    order: IntArray = indices[np.argsort(-np.abs(margin[indices]), kind="stable")]
    return order


def _select_examples(of_pairs: Sequence[IntArray]) -> IntArray:
    """The examples that pairs list, in data order; those of most pairs where there are too many."""
    counts = Counter(int(i) for examples in of_pairs for i in examples)
    most = sorted(counts, key=lambda i: (-counts[i], i))[:MAX_EXAMPLES]
    return np.array(sorted(most), dtype=np.int64)


def _count_agreement(
    matched: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]],
) -> dict[str, int]:
    """Number of pairs of runs, and of answers in which both, one or neither side is right."""
    both = sum(int((a & b).sum()) for a, b in matched)
    only_a = sum(int((a & ~b).sum()) for a, b in matched)
    only_b = sum(int((b & ~a).sum()) for a, b in matched)
    neither = sum(len(a) for a, _ in matched) - both - only_a - only_b
    counts = {"both": both, "only_a": only_a, "only_b": only_b, "neither": neither}
    return {"runs": len(matched), **counts}


def _choose_default_pair(rows: Sequence[Row], pairs: Sequence[tuple[int, int]]) -> int:
    """Place of the pair of the two highest methods; baselines only without two methods."""
    order = sorted(range(len(rows)), key=lambda i: (rows[i].cell.baseline, -_estimate(rows[i]), i))
    return next(place for place, pair in enumerate(pairs) if set(pair) == set(order[:2]))


def _estimate(row: Row) -> float:
    return row.interval.estimate if row.interval else 0.0


def _find_label_names(row: Row, highest: int) -> tuple[str, ...]:
    """Names of the labels, from the study or the built-in task; none where they do not fit."""
    from paretune import tasks

    task = row.cell.final[0].run.task
    names = task.labels
    if not task.has_own_data and task.name in tasks.names():
        names = tasks.get(task.name).labels
    return tuple(sanitise_line(name) for name in names or ()) if highest < len(names or ()) else ()


def find_segment_differences(
    all_rows: Sequence[Row], languages: tuple[str, str], text_bytes: int = PAGE_BYTES
) -> SegmentDifferences | None:
    """Compare every pair of configurations of a translation; None for fewer than two.

    Args:
        text_bytes: maximum size of the texts on the page.
    """
    rows = rows_on_common_examples(all_rows)
    if len(rows) < 2:
        return None
    outputs = [row.cell.group_answers(row.cell.final) for row in rows]
    scores = [{seed: _score_segments(p) for seed, p in by_seed.items()} for by_seed in outputs]
    means = np.stack([np.mean(list(by_seed.values()), axis=0) for by_seed in scores])
    sources = next(
        (r.cell.test_answers[0].prediction for r in rows if r.cell.name == "copy_source"), ()
    )
    selection = _Selection(outputs, scores, means, tuple(map(str, sources)), _Texts(text_bytes))
    pairs = list(combinations(range(len(rows)), 2))
    gaps = [means[a] - means[b] for a, b in pairs]
    orders = [_order_differing(np.abs(gap) > _EQUAL, gap) for gap in gaps]
    runs = [_match_runs(rows[a], outputs[a], rows[b], outputs[b]) for a, b in pairs]
    segments: list[list[DifferingSegment]] = [[] for _ in pairs]
    # The first segment of every pair before the second of any, so that few bytes are shared evenly.
    for rank in range(MAX_SHOWN):
        for pair, order, matched, of_pair in zip(pairs, orders, runs, segments, strict=True):
            if rank < len(order):
                segment = selection.select(pair, int(order[rank]), matched)
                of_pair += [segment] if segment else []
    compared = tuple(
        SegmentCounts(
            a=a,
            b=b,
            **_count_higher(match_seeds(rows[a], scores[a], rows[b], scores[b])),
            differing=len(order),
            segments=tuple(of_pair),
        )
        for (a, b), order, of_pair in zip(pairs, orders, segments, strict=True)
    )
    return SegmentDifferences(
        n=means.shape[1],
        sides=tuple(
            TranslatingSide(name=row.title, seeds=len(by_seed))
            for row, by_seed in zip(rows, outputs, strict=True)
        ),
        pairs=compared,
        texts=tuple(selection.texts.indices),
        languages=(_html(languages[0]), _html(languages[1])),
        cut=selection.texts.cut,
        default_pair=_choose_default_pair(rows, pairs),
    )


class _Texts:
    """Distinct texts with their indices, up to a size in bytes."""

    def __init__(self, max_bytes: int) -> None:
        self.indices: dict[str, int] = {}
        self.cut = False
        self._bytes_left = max_bytes

    def add(self, texts: Sequence[str], extra_bytes: int) -> list[int] | None:
        """The indices of the texts of one segment; None where they do not fit.

        Args:
            extra_bytes: size of the rest of the segment.
        """
        shortened = [_shorten(text) for text in texts]
        new = [text for text in dict.fromkeys(shortened) if text not in self.indices]
        size = extra_bytes + sum(len(dump_script_json(text)) + 1 for text in new)
        if size > self._bytes_left:
            return None
        self._bytes_left -= size
        for text in new:
            self.indices[text] = len(self.indices)
        self.cut = self.cut or any(len(text) > MAX_CHARACTERS for text in texts)
        return [self.indices[text] for text in shortened]


@dataclass(frozen=True)
class _Selection:
    """What shown segments are made of: outputs and scores by configuration and seed."""

    outputs: Sequence[Mapping[int, Predictions]]
    scores: Sequence[Mapping[int, Scores]]
    means: Scores
    sources: tuple[str, ...]
    texts: _Texts

    def select(
        self, pair: tuple[int, int], i: int, matched: Sequence[tuple[int, int]]
    ) -> DifferingSegment | None:
        """Segment ``i`` of a pair, from the pair of runs that is nearest to the mean difference.

        Returns:
            None where its texts do not fit any more.
        """
        a, b = pair
        difference = self.means[a][i] - self.means[b][i]

        def distance(seeds: tuple[int, int]) -> float:
            of_runs = self.scores[a][seeds[0]][i] - self.scores[b][seeds[1]][i]
            return float(abs(of_runs - difference))

        seeds = min(matched, key=distance)
        outputs = [self.outputs[side][seed] for side, seed in zip(pair, seeds, strict=True)]
        uid = _shorten(outputs[0].uid[i])
        source = self.sources[i : i + 1]
        reference = str(outputs[0].label[i])
        texts = (*source, reference, *(str(output.prediction[i]) for output in outputs))
        indices = self.texts.add(texts, _SEGMENT_BYTES + len(dump_script_json(uid)))
        if indices is None:
            return None
        *source_index, reference_index, of_a, of_b = indices
        return DifferingSegment(
            uid=uid,
            source=source_index[0] if source_index else None,
            reference=reference_index,
            outputs=(of_a, of_b),
            seeds=seeds,
            scores=(_tenth(self.scores[a][seeds[0]][i]), _tenth(self.scores[b][seeds[1]][i])),
            means=(_tenth(self.means[a][i]), _tenth(self.means[b][i])),
        )


def _shorten(text: str) -> str:
    """Printable, and at most :data:`MAX_CHARACTERS` long."""
    return sanitise_line(text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]} […]")


def _match_runs(
    a: Row, of_a: Mapping[int, Predictions], b: Row, of_b: Mapping[int, Predictions]
) -> list[tuple[int, int]]:
    """The seeds of each pair of runs; the first of each where they share none."""
    pairs = match_seeds(a, {seed: seed for seed in of_a}, b, {seed: seed for seed in of_b})
    return pairs or [(min(of_a), min(of_b))]


def _score_segments(predictions: Predictions) -> Scores:
    """SacreBLEU's chrF of each segment alone, 0 to 100; (segments,)."""
    texts, references = (tuple(map(str, of)) for of in (predictions.prediction, predictions.label))
    return CHRF.from_sums(CHRF.statistics(references, [texts], ())[0])


def _count_higher(matched: Sequence[tuple[Scores, Scores]]) -> dict[str, int]:
    """Number of pairs of runs, and of their segments in which a, b or neither is higher."""
    only_a = sum(int((a > b + _EQUAL).sum()) for a, b in matched)
    only_b = sum(int((b > a + _EQUAL).sum()) for a, b in matched)
    equal = sum(len(a) for a, _ in matched) - only_a - only_b
    return {"runs": len(matched), "only_a": only_a, "only_b": only_b, "equal": equal}


def _tenth(value: float) -> float:
    return round(float(value), 1)


def _html(language: str) -> str:
    """A code that HTML knows, as ``sl``; empty for others, as ``slv_Latn``."""
    return language if re.fullmatch("[a-z]{2}", language) else ""
