"""Test examples that one method answers correctly and another does not, for every pair of a task.

Two methods are compared run by run: same seed, same examples. The single run of a deterministic
baseline is compared with every run of the other. Of the examples on which the majority answers over
seeds differ, those with the clearest difference are listed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from paretune.metrics.classification import NO_LABEL
from paretune.reporting.rows import Row
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line

MAX_LISTED = 25
"""Examples that are listed for one pair."""
MAX_EXAMPLES = 2000
"""Examples of one task on the page, for all its pairs together."""

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class AnsweredSide:
    """One configuration: its majority answer to each listed example, and how many seeds are
    right.
    """

    name: str
    seeds: int
    answers: tuple[int, ...]
    right: tuple[int, ...]


@dataclass(frozen=True)
class PairAgreement:
    """Two sides (indices into :attr:`Disagreement.sides`) over ``runs`` pairs of runs.

    The four counts add up to examples x ``runs``; all are 0 where the sides share no seed.
    ``differing`` examples have different majority answers; ``named`` are indices into
    :attr:`Disagreement.examples`.
    """

    a: int
    b: int
    runs: int
    both: int
    only_a: int
    only_b: int
    neither: int
    differing: int
    named: tuple[int, ...]


class _Pair(Protocol):
    @property
    def a(self) -> int:
        """Place of one side."""

    @property
    def b(self) -> int:
        """Place of the other."""


Of = TypeVar("Of")
Sides = TypeVar("Sides", bound=_Pair)


@dataclass(frozen=True)
class Disagreement:
    """All pairs of one task; ``default_pair`` is the one on the page without JavaScript.

    ``examples`` are identifiers and labels; ``labels`` the labels' names, empty where the records
    and the study have only their numbers.
    """

    n: int
    unit: str
    sides: tuple[AnsweredSide, ...]
    pairs: tuple[PairAgreement, ...]
    examples: tuple[tuple[str, int], ...]
    labels: tuple[str, ...]
    default_pair: PairAgreement

    def label(self, index: int) -> str:
        """The name of a label, or its number where it has none; "no label" where none was found."""
        if index == NO_LABEL:
            return "no label"
        return self.labels[index] if index < len(self.labels) else str(index)

    def basis(self, pair: PairAgreement) -> str:
        """What the counts of a pair are over."""
        if not pair.runs:
            return "no seed that both have: nothing can be counted"
        return f"{self.n:,} test {self.unit} × {pluralise(pair.runs, 'pair')} of runs"

    def count(self, pair: PairAgreement, count: int) -> str:
        """One of the four counts; a dash where nothing was counted."""
        return f"{count:,}" if pair.runs else "–"

    def differing(self, pair: PairAgreement) -> str:
        """On how many examples the majority answers differ, and how many are listed."""
        whole = (
            f"Majority answers over seeds differ on {pair.differing:,} of {self.n:,} test "
            f"{self.unit}"
        )
        left = pair.differing - len(pair.named)
        if not pair.differing:
            return f"{whole}."
        if not left:
            return f"{whole}; all are listed, the clearest difference first."
        return (
            f"{whole}; the {len(pair.named)} with the clearest difference are listed, {left:,} are "
            "left out."
        )

    def script_data(self) -> dict[str, Any]:
        """Plain values for the page's script."""
        return {
            "n": self.n,
            "unit": self.unit,
            "labels": self.labels,
            "examples": self.examples,
            "sides": [vars(side) for side in self.sides],
            "pairs": [vars(pair) for pair in self.pairs],
            "default_pair": (self.default_pair.a, self.default_pair.b),
        }


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
    right = [{seed: one == label for seed, one in by_seed.items()} for by_seed in answers]
    share_right = np.stack([np.mean(list(by_seed.values()), axis=0) for by_seed in right])
    ordered = {
        (a, b): _order_differing(majority[a] != majority[b], share_right[a] - share_right[b])
        for a, b in combinations(range(len(rows)), 2)
    }
    listed = _select_examples([examples[:MAX_LISTED] for examples in ordered.values()])
    index = {int(example): i for i, example in enumerate(listed)}
    pairs = tuple(
        PairAgreement(
            a,
            b,
            *_count_agreement(match_seeds(rows[a], right[a], rows[b], right[b])),
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
                row.title,
                len(right[i]),
                tuple(int(answer) for answer in majority[i][listed]),
                tuple(int(count) for count in sum(right[i].values())[listed]),
            )
            for i, row in enumerate(rows)
        ),
        pairs=pairs,
        examples=tuple((sanitise_line(first.uid[i]), int(label[i])) for i in listed),
        labels=_find_label_names(rows[0], int(max(label.max(), majority.max()))),
        default_pair=choose_default_pair(rows, pairs),
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
        return [(one, other) for one in of_a.values() for other in of_b.values()]
    return [(one, of_b[seed]) for seed, one in of_a.items() if seed in of_b]


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
) -> tuple[int, int, int, int, int]:
    """Number of pairs of runs, and of answers in which both, one or neither side is right."""
    both = sum(int((a & b).sum()) for a, b in matched)
    only_a = sum(int((a & ~b).sum()) for a, b in matched)
    only_b = sum(int((b & ~a).sum()) for a, b in matched)
    total = sum(len(a) for a, _ in matched)
    return len(matched), both, only_a, only_b, total - both - only_a - only_b


def choose_default_pair(rows: Sequence[Row], pairs: Sequence[Sides]) -> Sides:
    """The two highest scores among the methods; baselines only where there are no two methods."""
    order = sorted(
        range(len(rows)),
        key=lambda i: (rows[i].cell.baseline, -(_estimate(rows[i])), i),
    )
    best_two = set(order[:2])
    return next(pair for pair in pairs if {pair.a, pair.b} == best_two)


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
