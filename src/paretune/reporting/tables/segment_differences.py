"""The segments that two translations differ most on, for every pair of a task's configurations.

A segment's score is sacreBLEU's chrF of it alone, 0 to 100, mean over seeds. Two configurations are
set side by side by these means; counted are pairs of runs, of the same seed, as in
:mod:`paretune.reporting.tables.disagreement`. What is shown of a segment is what one such pair of
runs said:
the one whose difference is nearest to that of the means. The sources are what the baseline
``copy_source`` answered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paretune.metrics.translation import CHRF
from paretune.reporting.json.script_json import dump_script_json
from paretune.reporting.rows import Row
from paretune.reporting.tables.disagreement import (
    choose_shown_pair,
    match_seeds,
    rows_on_common_examples,
)
from paretune.reporting.text.formatting import pluralise
from paretune.store.record import Predictions
from paretune.terminal.sanitise import sanitise_line

SHOWN = 10
"""Segments that are shown of one pair."""
LONGEST = 400
"""Characters that are shown of a text."""
PAGE_BYTES = 1_500_000
"""Bytes of the page that the texts of all its tasks may take."""

_ROW = 60
"""Bytes of a shown segment beside its texts, about."""

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Translator:
    """One configuration, and how many seeds its means are over."""

    name: str
    seeds: int


@dataclass(frozen=True)
class ShownSegment:
    """One segment of a pair. Texts are places in :attr:`SegmentDifferences.texts`; ``source`` may
    lack one.

    ``seeds`` said them; ``own`` are their chrF, ``means`` those over all of each side's seeds.
    """

    uid: str
    source: int | None
    reference: int
    said: tuple[int, int]
    seeds: tuple[int, int]
    own: tuple[float, float]
    means: tuple[float, float]


@dataclass(frozen=True)
class SegmentPair:
    """Two sides (places in :attr:`SegmentDifferences.sides`) over ``runs`` pairs of runs.

    The three counts add up to segments x ``runs``; all are 0 where no seed is common. On
    ``differing`` segments the means over seeds differ.
    """

    a: int
    b: int
    runs: int
    only_a: int
    only_b: int
    equal: int
    differing: int
    shown: tuple[ShownSegment, ...]


@dataclass(frozen=True)
class SegmentDifferences:
    """All pairs of one task; ``shown`` is the one that stands without JavaScript.

    ``languages`` are codes that HTML knows, of source and target, or empty. ``cut``: some text is
    longer than what is shown of it.
    """

    n: int
    sides: tuple[Translator, ...]
    pairs: tuple[SegmentPair, ...]
    texts: tuple[str, ...]
    languages: tuple[str, str]
    cut: bool
    shown: SegmentPair

    def basis(self, pair: SegmentPair) -> str:
        """What a pair's counts stand on."""
        if not pair.runs:
            return "no seed that both have: nothing can be counted"
        return f"{self.n:,} test segments × {pluralise(pair.runs, 'pair')} of runs"

    def count(self, count: int, pair: SegmentPair) -> str:
        """One of the three counts; a dash where nothing was counted."""
        return f"{count:,}" if pair.runs else "–"

    def differing(self, pair: SegmentPair) -> str:
        """On how many segments the means differ, and how many are shown."""
        whole = f"The means over seeds differ on {pair.differing:,} of {self.n:,} test segments"
        if not pair.differing:
            return f"{whole}."
        return f"{whole}; the {len(pair.shown)} with the largest difference are shown."

    def score(self, shown: ShownSegment, side: int, pair: SegmentPair) -> str:
        """``61.2, mean of 3 seeds 58.0``: of one segment, so without an interval."""
        seeds = self.sides[(pair.a, pair.b)[side]].seeds
        own = f"{shown.own[side]:.1f}"
        return own if seeds == 1 else f"{own}, mean of {seeds} seeds {shown.means[side]:.1f}"

    def script_data(self) -> dict[str, Any]:
        """For the page's script: all of it as plain values."""
        return {
            "n": self.n,
            "unit": "segments",
            "sides": [vars(side) for side in self.sides],
            "pairs": [
                {**vars(pair), "shown": [list(vars(one).values()) for one in pair.shown]}
                for pair in self.pairs
            ],
            "texts": self.texts,
            "languages": self.languages,
            "shown": (self.shown.a, self.shown.b),
        }


def find_segment_differences(
    all_rows: Sequence[Row], languages: tuple[str, str], text_bytes: int = PAGE_BYTES
) -> SegmentDifferences | None:
    """Compare every pair of configurations of a translation; None for fewer than two.

    Args:
        all_rows: of one task.
        languages: of source and target.
        text_bytes: the most that the texts may take on the page.
    """
    rows = rows_on_common_examples(all_rows)
    if len(rows) < 2:
        return None
    said = [_said(row) for row in rows]
    scores = [{seed: _chrf(given) for seed, given in found.items()} for found in said]
    means = np.stack([np.mean(list(found.values()), axis=0) for found in scores])
    pairs = list(combinations(range(len(rows)), 2))
    orders = [_largest(means[a] - means[b]) for a, b in pairs]
    runs = [_runs(rows[a], said[a], rows[b], said[b]) for a, b in pairs]
    texts = _Texts(text_bytes)
    chosen: list[list[ShownSegment]] = [[] for _ in pairs]
    sources = next((r.cell.answers[0].prediction for r in rows if r.cell.name == "copy_source"), ())
    # One of each pair before the second of any, so that little room is shared out evenly.
    for rank in range(SHOWN):
        for (a, b), order, matched, found in zip(pairs, orders, runs, chosen, strict=True):
            if rank >= len(order):
                continue
            i = int(order[rank])
            wide = means[a][i] - means[b][i]
            seeds = min(matched, key=lambda s: abs(scores[a][s[0]][i] - scores[b][s[1]][i] - wide))
            given = [said[side][seed] for side, seed in zip((a, b), seeds, strict=True)]
            wanted = (
                *((str(sources[i]),) if sources else ()),
                str(given[0].label[i]),
                *(str(one.prediction[i]) for one in given),
            )
            uid = _shown(given[0].uid[i])
            places = texts.places(wanted, len(dump_script_json(uid)))
            if places is None:
                continue
            *source, reference, mine, theirs = places
            found.append(
                ShownSegment(
                    uid=uid,
                    source=source[0] if source else None,
                    reference=reference,
                    said=(mine, theirs),
                    seeds=seeds,
                    own=(_tenth(scores[a][seeds[0]][i]), _tenth(scores[b][seeds[1]][i])),
                    means=(_tenth(means[a][i]), _tenth(means[b][i])),
                )
            )
    beside = tuple(
        SegmentPair(a, b, *_counts(rows, scores, a, b), differing=len(order), shown=tuple(found))
        for (a, b), order, found in zip(pairs, orders, chosen, strict=True)
    )
    return SegmentDifferences(
        n=means.shape[1],
        sides=tuple(
            Translator(row.title, len(found)) for row, found in zip(rows, said, strict=True)
        ),
        pairs=beside,
        texts=tuple(texts.known),
        languages=(_html(languages[0]), _html(languages[1])),
        cut=texts.cut,
        shown=choose_shown_pair(rows, beside),
    )


class _Texts:
    """Each text once, its place by what it says, as long as there is room."""

    def __init__(self, room: int) -> None:
        self.known: dict[str, int] = {}
        self.cut = False
        self._room = room

    def places(self, wanted: Sequence[str], beside: int) -> list[int] | None:
        """The places of all these texts; None, and nothing kept, where one has no room.

        Args:
            wanted: the texts of one segment.
            beside: bytes of its name.
        """
        shown = [_shown(text) for text in wanted]
        fresh = [text for text in dict.fromkeys(shown) if text not in self.known]
        taken = _ROW + beside + sum(len(dump_script_json(text)) + 1 for text in fresh)
        if taken > self._room:
            return None
        self._room -= taken
        for text in fresh:
            self.known[text] = len(self.known)
        self.cut = self.cut or any(len(text) > LONGEST for text in wanted)
        return [self.known[text] for text in shown]


def _shown(text: str) -> str:
    """Printable, and not longer than a few lines."""
    kept = text if len(text) <= LONGEST else f"{text[:LONGEST]} […]"
    return sanitise_line(kept)


def _said(row: Row) -> dict[int, Predictions]:
    """What each seed answered on the test part."""
    return {
        record.run.seed: record.predictions["test"]
        for record in row.cell.final
        if "test" in record.predictions and record.predictions["test"].uid
    }


def _runs(
    a: Row, of_a: Mapping[int, Predictions], b: Row, of_b: Mapping[int, Predictions]
) -> list[tuple[int, int]]:
    """The seeds of each pair of runs; where none is common, the first of each."""
    pairs = match_seeds(a, {seed: seed for seed in of_a}, b, {seed: seed for seed in of_b})
    return pairs or [(min(of_a), min(of_b))]


def _chrf(given: Predictions) -> Scores:
    """SacreBLEU's chrF of each segment alone, 0 to 100; (segments,)."""
    texts, references = (tuple(map(str, of)) for of in (given.prediction, given.label))
    return CHRF.from_sums(CHRF.statistics(references, [texts], ())[0])


def _largest(difference: Scores) -> NDArray[np.int64]:
    """Places of the segments that differ, the largest difference first, then as in the data."""
    places = np.flatnonzero(np.abs(difference) > 1e-9)
    order: NDArray[np.int64] = places[np.argsort(-np.abs(difference[places]), kind="stable")]
    return order


def _counts(
    rows: Sequence[Row], scores: Sequence[Mapping[int, Scores]], a: int, b: int
) -> tuple[int, int, int, int]:
    """How many pairs of runs, and in how many segments of them a, b or neither is higher."""
    matched = match_seeds(rows[a], scores[a], rows[b], scores[b])
    above = sum(int((mine > theirs + 1e-9).sum()) for mine, theirs in matched)
    below = sum(int((theirs > mine + 1e-9).sum()) for mine, theirs in matched)
    total = sum(len(mine) for mine, _ in matched)
    return len(matched), above, below, total - above - below


def _tenth(value: float) -> float:
    return round(float(value), 1)


def _html(language: str) -> str:
    """A code that HTML knows, as ``sl``; empty for others, as ``slv_Latn``."""
    return language if re.fullmatch("[a-z]{2}", language) else ""
