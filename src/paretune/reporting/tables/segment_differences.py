"""Segments on which two translations differ most, for every pair of a task's configurations.

The score of a segment is sacreBLEU's chrF of it alone, 0 to 100, mean over seeds. Two
configurations
are compared by these means; the counts are over pairs of runs of the same seed, as in
:mod:`paretune.reporting.tables.disagreement`. The outputs of a shown segment are those of one pair
of runs: the one whose difference is nearest to that of the means. The sources are the outputs of
the baseline ``copy_source``.
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
from paretune.reporting.rows import Row
from paretune.reporting.tables.disagreement import (
    choose_default_pair,
    match_seeds,
    rows_on_common_examples,
)
from paretune.reporting.text.escape import dump_script_json
from paretune.store.record import Predictions
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line

MAX_SHOWN = 10
"""Segments that are shown of one pair."""
MAX_CHARACTERS = 400
"""Characters that are shown of a text."""
PAGE_BYTES = 1_500_000
"""Maximum size of the texts of all tasks on the page."""

_SEGMENT_BYTES = 60
"""Approximate size of a shown segment without its texts."""

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Translator:
    """One configuration, and how many seeds its means are over."""

    name: str
    seeds: int


@dataclass(frozen=True)
class ShownSegment:
    """One segment of a pair; texts are indices into :attr:`SegmentDifferences.texts`.

    ``source`` is None where it is not known. ``outputs`` are those of ``seeds``; ``own`` are their
    chrF, ``means`` the chrF over all seeds of each side.
    """

    uid: str
    source: int | None
    reference: int
    outputs: tuple[int, int]
    seeds: tuple[int, int]
    own: tuple[float, float]
    means: tuple[float, float]


@dataclass(frozen=True)
class SegmentPair:
    """Two sides (indices into :attr:`SegmentDifferences.sides`) over ``runs`` pairs of runs.

    The three counts add up to segments x ``runs``; all are 0 where the sides share no
    seed. On ``differing`` segments the means over seeds differ.
    """

    a: int
    b: int
    runs: int
    only_a: int
    only_b: int
    equal: int
    differing: int
    segments: tuple[ShownSegment, ...]


@dataclass(frozen=True)
class SegmentDifferences:
    """All pairs of one task; ``default_pair`` is the one on the page without JavaScript.

    ``languages`` are codes that HTML knows, of source and target, or empty. ``cut``: some text
    is shortened.
    """

    n: int
    sides: tuple[Translator, ...]
    pairs: tuple[SegmentPair, ...]
    texts: tuple[str, ...]
    languages: tuple[str, str]
    cut: bool
    default_pair: SegmentPair

    def basis(self, pair: SegmentPair) -> str:
        """What the counts of a pair are over."""
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
        return f"{whole}; the {len(pair.segments)} with the largest difference are shown."

    def score(self, segment: ShownSegment, side: int, pair: SegmentPair) -> str:
        """``61.2, mean of 3 seeds 58.0``: of one segment, so without an interval."""
        seeds = self.sides[(pair.a, pair.b)[side]].seeds
        own = f"{segment.own[side]:.1f}"
        return own if seeds == 1 else f"{own}, mean of {seeds} seeds {segment.means[side]:.1f}"

    def script_data(self) -> dict[str, Any]:
        """Plain values for the page's script."""
        return {
            "n": self.n,
            "unit": "segments",
            "sides": [vars(side) for side in self.sides],
            "pairs": [
                {**vars(pair), "segments": [list(vars(one).values()) for one in pair.segments]}
                for pair in self.pairs
            ],
            "texts": self.texts,
            "languages": self.languages,
            "default_pair": (self.default_pair.a, self.default_pair.b),
        }


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
    orders = [_order_differing(means[a] - means[b]) for a, b in pairs]
    runs = [_match_runs(rows[a], outputs[a], rows[b], outputs[b]) for a, b in pairs]
    segments: list[list[ShownSegment]] = [[] for _ in pairs]
    # The first segment of every pair before the second of any, so that few bytes are shared evenly.
    for rank in range(MAX_SHOWN):
        for pair, order, matched, of_pair in zip(pairs, orders, runs, segments, strict=True):
            if rank < len(order):
                segment = selection.select(pair, int(order[rank]), matched)
                of_pair += [segment] if segment else []
    compared = tuple(
        SegmentPair(
            a,
            b,
            *_count_higher(match_seeds(rows[a], scores[a], rows[b], scores[b])),
            differing=len(order),
            segments=tuple(of_pair),
        )
        for (a, b), order, of_pair in zip(pairs, orders, segments, strict=True)
    )
    return SegmentDifferences(
        n=means.shape[1],
        sides=tuple(
            Translator(row.title, len(by_seed)) for row, by_seed in zip(rows, outputs, strict=True)
        ),
        pairs=compared,
        texts=tuple(selection.texts.indices),
        languages=(_html(languages[0]), _html(languages[1])),
        cut=selection.texts.cut,
        default_pair=choose_default_pair(rows, compared),
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
    ) -> ShownSegment | None:
        """Segment ``i`` of a pair, from the pair of runs that is nearest to the mean difference.

        Returns:
            None where its texts do not fit any more.
        """
        a, b = pair
        difference = self.means[a][i] - self.means[b][i]

        def distance(seeds: tuple[int, int]) -> float:
            own = self.scores[a][seeds[0]][i] - self.scores[b][seeds[1]][i]
            return float(abs(own - difference))

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
        return ShownSegment(
            uid=uid,
            source=source_index[0] if source_index else None,
            reference=reference_index,
            outputs=(of_a, of_b),
            seeds=seeds,
            own=(_tenth(self.scores[a][seeds[0]][i]), _tenth(self.scores[b][seeds[1]][i])),
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


def _order_differing(difference: Scores) -> NDArray[np.int64]:
    """Indices of the segments that differ, the largest difference first, then as in the data."""
    indices = np.flatnonzero(np.abs(difference) > 1e-9)
    order: NDArray[np.int64] = indices[np.argsort(-np.abs(difference[indices]), kind="stable")]
    return order


def _count_higher(matched: Sequence[tuple[Scores, Scores]]) -> tuple[int, int, int, int]:
    """Number of pairs of runs, and of their segments in which a, b or neither is higher."""
    only_a = sum(int((a > b + 1e-9).sum()) for a, b in matched)
    only_b = sum(int((b > a + 1e-9).sum()) for a, b in matched)
    total = sum(len(a) for a, _ in matched)
    return len(matched), only_a, only_b, total - only_a - only_b


def _tenth(value: float) -> float:
    return round(float(value), 1)


def _html(language: str) -> str:
    """A code that HTML knows, as ``sl``; empty for others, as ``slv_Latn``."""
    return language if re.fullmatch("[a-z]{2}", language) else ""
