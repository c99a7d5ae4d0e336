"""Which test examples one method answers rightly and another does not, for every pair of a task.

Two methods are set side by side run by run: the same seed, the same examples. What has one run only
(a baseline of which nothing is drawn) stands beside every run of the other. Of the examples on
which the methods' usual answers differ, those with the clearest difference are named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from paretune.reporting.rows import Row
from paretune.reporting.text.formatting import pluralise
from paretune.store.record import Predictions
from paretune.terminal.sanitise import sanitise_line

SHOWN = 25
"""Examples that are named for one pair."""
KEPT = 2000
"""Examples of one task that the page holds at most, for all its pairs together."""

Whole = NDArray[np.int64]


@dataclass(frozen=True)
class AnsweredSide:
    """One configuration: its usual answer to each kept example, and with how many seeds right."""

    name: str
    seeds: int
    said: tuple[int, ...]
    right: tuple[int, ...]


@dataclass(frozen=True)
class PairAgreement:
    """Two sides (places in :attr:`Disagreement.sides`) over ``runs`` pairs of runs.

    The four counts add up to examples x ``runs``; all are 0 where no seed is common. ``differing``
    examples have different usual answers; ``named`` are places in :attr:`Disagreement.examples`.
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
    """All pairs of one task; ``shown`` is the one that stands without JavaScript.

    ``examples`` are identifiers and labels; ``labels`` the labels' names, empty where the records
    and the study have only their numbers.
    """

    n: int
    unit: str
    sides: tuple[AnsweredSide, ...]
    pairs: tuple[PairAgreement, ...]
    examples: tuple[tuple[str, int], ...]
    labels: tuple[str, ...]
    shown: PairAgreement

    def label(self, index: int) -> str:
        """A label as it is shown: its name where it is known."""
        return self.labels[index] if index < len(self.labels) else str(index)

    def basis(self, pair: PairAgreement) -> str:
        """What a pair's counts stand on."""
        if not pair.runs:
            return "no seed that both have: nothing can be counted"
        return f"{self.n:,} test {self.unit} × {pluralise(pair.runs, 'pair')} of runs"

    def count(self, pair: PairAgreement, count: int) -> str:
        """One of the four counts; a dash where nothing was counted."""
        return f"{count:,}" if pair.runs else "–"

    def differing(self, pair: PairAgreement) -> str:
        """On how many examples the usual answers differ, and how many of them are named."""
        whole = (
            f"Usual answers (those of most seeds) differ on {pair.differing:,} of {self.n:,} test "
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
        """For the page's script: all of it as plain values."""
        return {
            "n": self.n,
            "unit": self.unit,
            "labels": self.labels,
            "examples": self.examples,
            "sides": [vars(side) for side in self.sides],
            "pairs": [vars(pair) for pair in self.pairs],
            "shown": (self.shown.a, self.shown.b),
        }


def find_disagreements(all_rows: Sequence[Row]) -> Disagreement | None:
    """Every pair of a task's configurations; None where answers are no labels, or fewer than two.

    Args:
        all_rows: of one task.
    """
    rows = _comparable(all_rows)
    if len(rows) < 2:
        return None
    first = rows[0].cell.answers[0]
    label = np.array(first.label, dtype=np.int64)
    answers = [_answers(row) for row in rows]
    usual = np.stack([_usual(found) for found in answers])
    right = [{seed: given == label for seed, given in found.items()} for found in answers]
    share = np.stack([np.mean(list(found.values()), axis=0) for found in right])
    ordered = {
        (a, b): _ordered(usual[a] != usual[b], share[a] - share[b])
        for a, b in combinations(range(len(rows)), 2)
    }
    kept = _kept([places[:SHOWN] for places in ordered.values()])
    place = {int(example): i for i, example in enumerate(kept)}
    pairs = tuple(
        PairAgreement(
            a,
            b,
            *_counts(rows[a], right[a], rows[b], right[b]),
            differing=len(places),
            named=tuple(place[int(i)] for i in places[:SHOWN] if int(i) in place),
        )
        for (a, b), places in ordered.items()
    )
    return Disagreement(
        n=len(label),
        unit="answers" if first.question else "examples",
        sides=tuple(
            AnsweredSide(
                row.title,
                len(right[i]),
                tuple(int(said) for said in usual[i][kept]),
                tuple(int(count) for count in sum(right[i].values())[kept]),
            )
            for i, row in enumerate(rows)
        ),
        pairs=pairs,
        examples=tuple((sanitise_line(first.uid[i]), int(label[i])) for i in kept),
        labels=_names(rows[0], int(max(label.max(), usual.max()))),
        shown=choose_shown_pair(rows, pairs),
    )


def _comparable(rows: Sequence[Row]) -> list[Row]:
    """Those that answered the same examples with labels."""
    return rows_on_common_examples([r for r in rows if r.cell.objective.predicts_labels])


def rows_on_common_examples(rows: Sequence[Row]) -> list[Row]:
    """Those that answered the same examples: the largest such group."""
    there = [row for row in rows if row.cell.answers]
    kinds = Counter(row.cell.answers[0].uid for row in there)
    usual = kinds.most_common(1)[0][0] if kinds else ()
    return [row for row in there if row.cell.answers[0].uid == usual]


def match_seeds(
    a: Row, of_a: Mapping[int, Of], b: Row, of_b: Mapping[int, Of]
) -> list[tuple[Of, Of]]:
    """What two configurations have of the same seed; who has one run stands beside every other's.

    Args:
        a: one.
        of_a: of each of its seeds.
        b: the other.
        of_b: of each of its seeds.
    """
    if a.cell.deterministic or b.cell.deterministic:
        return [(mine, theirs) for mine in of_a.values() for theirs in of_b.values()]
    return [(mine, of_b[seed]) for seed, mine in of_a.items() if seed in of_b]


def _answers(row: Row) -> dict[int, Whole]:
    """What each seed answered: (examples,)."""
    found: dict[int, Predictions] = {
        record.run.seed: record.predictions["test"]
        for record in row.cell.final
        if "test" in record.predictions and record.predictions["test"].uid
    }
    return {seed: np.array(given.prediction, dtype=np.int64) for seed, given in found.items()}


def _usual(answers: dict[int, Whole]) -> Whole:
    """The answer that most seeds gave to each example; of equally many the first seed's."""
    given = np.stack(list(answers.values()))
    votes = (given[:, None, :] == given[None, :, :]).sum(axis=1)
    most: Whole = np.take_along_axis(given, votes.argmax(axis=0)[None, :], axis=0)[0]
    return most


def _ordered(differ: NDArray[np.bool_], margin: NDArray[np.float64]) -> Whole:
    """Places of the examples that differ, the clearest first, then in the order of the data."""
    places = np.flatnonzero(differ)
    order: Whole = places[np.argsort(-np.abs(margin[places]), kind="stable")]
    return order


def _kept(wanted: Sequence[Whole]) -> Whole:
    """The examples that pairs name, in the order of the data; those of most pairs where many."""
    counted = Counter(int(i) for places in wanted for i in places)
    most = sorted(counted, key=lambda i: (-counted[i], i))[:KEPT]
    return np.array(sorted(most), dtype=np.int64)


def _counts(
    a: Row, right_a: dict[int, NDArray[np.bool_]], b: Row, right_b: dict[int, NDArray[np.bool_]]
) -> tuple[int, int, int, int, int]:
    """How many pairs of runs, and in how many of their answers both, one or neither is right."""
    matched = match_seeds(a, right_a, b, right_b)
    both = sum(int((mine & theirs).sum()) for mine, theirs in matched)
    only_a = sum(int((mine & ~theirs).sum()) for mine, theirs in matched)
    only_b = sum(int((theirs & ~mine).sum()) for mine, theirs in matched)
    total = sum(len(mine) for mine, _ in matched)
    return len(matched), both, only_a, only_b, total - both - only_a - only_b


def choose_shown_pair(rows: Sequence[Row], pairs: Sequence[Sides]) -> Sides:
    """The two highest scores among the methods; baselines only where there are no two methods."""
    order = sorted(
        range(len(rows)),
        key=lambda i: (rows[i].cell.baseline, -(_estimate(rows[i])), i),
    )
    wanted = set(order[:2])
    return next(pair for pair in pairs if {pair.a, pair.b} == wanted)


def _estimate(row: Row) -> float:
    return row.interval.estimate if row.interval else 0.0


def _names(row: Row, highest: int) -> tuple[str, ...]:
    """The labels' names, as the study or the built-in task has them; none where they do not fit."""
    from paretune import tasks

    task = row.cell.final[0].run.task
    names = task.labels
    if not task.has_own_data and task.name in tasks.names():
        names = tasks.get(task.name).labels
    return tuple(sanitise_line(name) for name in names or ()) if highest < len(names or ()) else ()
