"""Edits of TER (Snover et al. 2006): insertions, deletions, substitutions, and shifts of phrases.

Tercom's greedy search with sacreBLEU's limits, and exactly its numbers: phrases of the hypothesis
that also occur elsewhere in the reference are moved, one at a time, wherever that lowers the edit
distance most. Several times as fast as sacreBLEU, since

- the distance is never below that of the two bags of words, so a search that cannot improve on it
  is not begun;
- the distance of a shifted hypothesis is computed bit-parallel (Hyyrö 2003), a column at once; the
  table with its trace is made once for each shift that is done.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

MAX_SHIFT_WORDS = 10
"""Longest phrase that is moved, in words."""
MAX_SHIFT_DISTANCE = 50
"""Largest distance over which a phrase is moved, in words."""
BEAM_WIDTH = 25
"""Half the width of the band of the table that is computed."""
MAX_SHIFT_CANDIDATES = 1000
"""Shifts that are tried at most."""
_INFINITY = 1 << 60

Words = Sequence[str]


def count_edits(words: Words, reference: Words) -> int:
    """The fewest edits and shifts that the greedy search finds from ``words`` to ``reference``."""
    if not reference:
        return len(words)
    now = list(words)
    least = max(len(now), len(reference)) - sum((Counter(now) & Counter(reference)).values())
    bits = _BitDistance(reference)
    tried = shifts = 0
    distance, trace = _align_words(now, reference)
    while distance > least:
        better, tried = _find_best_shift(now, reference, distance, least, trace, bits, tried)
        if tried >= MAX_SHIFT_CANDIDATES or better is None:
            break
        shifts += 1
        now = better
        distance, trace = _align_words(now, reference)
    return shifts + distance


def _find_best_shift(
    words: list[str],
    reference: Words,
    distance: int,
    least: int,
    trace: str,
    bits: _BitDistance,
    tried: int,
) -> tuple[list[str] | None, int]:
    """The words after the best shift, None where none gains; and how many were tried so far.

    Of equal gains the longest phrase is taken, then the first, then the one moved farthest left.
    """
    place, wrong_there, wrong_here = _read_alignment(trace)
    best: tuple[int, int, int, int] | None = None
    shifted: list[str] | None = None
    for start, there, length in _find_phrases(words, reference):
        if not any(wrong_here[start : start + length]):
            continue
        if not any(wrong_there[there : there + length]):
            continue
        if start <= place[there] < start + length:
            continue
        before = -1
        for position in range(there - 1, there + length):
            target = 0 if position < 0 else place[position] + 1
            if target == before:
                continue
            before = target
            tried += 1
            key = (length, -start, -target)
            # In the best case the shift brings the distance to its least: would it win then?
            if best is not None and (distance - least, *key) <= best:
                continue
            moved = _apply_shift(words, start, length, target)
            gain = distance - bits.distance(moved)
            if best is None or (gain, *key) > best:
                best, shifted = (gain, *key), moved
        if tried >= MAX_SHIFT_CANDIDATES:
            break
    return (shifted if best is not None and best[0] > 0 else None), tried


def _find_phrases(words: Words, reference: Words) -> Iterator[tuple[int, int, int]]:
    """``(start in words, start in reference, length)`` of every phrase that both have."""
    places: dict[str, list[int]] = {}
    for index, word in enumerate(reference):
        places.setdefault(word, []).append(index)
    for start, word in enumerate(words):
        for there in places.get(word, ()):
            if abs(there - start) > MAX_SHIFT_DISTANCE:
                continue
            most = min(MAX_SHIFT_WORDS, len(words) - start, len(reference) - there)
            for length in range(1, most + 1):
                if words[start + length - 1] != reference[there + length - 1]:
                    break
                yield start, there, length


def _apply_shift(words: list[str], start: int, length: int, target: int) -> list[str]:
    phrase, rest = words[start : start + length], words[:start] + words[start + length :]
    # A target inside the phrase or behind it counts the words that the phrase leaves behind.
    at = target if target < start else target - length if target > start + length else target
    return rest[:at] + phrase + rest[at:]


def _read_alignment(trace: str) -> tuple[list[int], list[bool], list[bool]]:
    """Where each word of the reference stands in the words; which words of either are wrong."""
    place, wrong_there, wrong_here = [], [], []
    at = -1
    for step in trace:
        if step != "i":
            at += 1
            wrong_here.append(step != " ")
        if step != "d":
            place.append(at)
            wrong_there.append(step != " ")
    return place, wrong_there, wrong_here


def _align_words(words: Words, reference: Words) -> tuple[int, str]:
    """The distance, and its steps: kept `` ``, substituted ``s``, deleted ``d``, inserted ``i``."""
    table = _distance_table(words, reference)
    i, j = len(words), len(reference)
    steps = []
    while i or j:
        here = table[i][j]
        same = i > 0 and j > 0 and words[i - 1] == reference[j - 1]
        if i and j and table[i - 1][j - 1] + (not same) == here:
            steps.append(" " if same else "s")
            i, j = i - 1, j - 1
        elif i and table[i - 1][j] + 1 == here:
            steps.append("d")
            i -= 1
        else:
            steps.append("i")
            j -= 1
    return table[-1][-1], "".join(reversed(steps))


def _distance_table(words: Words, reference: Words) -> list[list[int]]:
    """Edit distances of beginnings; only a band around the diagonal is filled."""
    n, width = len(words), len(reference)
    ratio = width / n if n else 1.0
    beam = math.ceil(ratio / 2 + BEAM_WIDTH) if ratio / 2 > BEAM_WIDTH else BEAM_WIDTH
    row = list(range(width + 1))
    table = [row]
    for i, word in enumerate(words, start=1):
        above, row = row, [_INFINITY] * (width + 1)
        middle = math.floor(i * ratio)
        first, end = max(0, middle - beam), min(width + 1, middle + beam)
        if first == 0:
            row[0] = above[0] + 1
        for j in range(max(1, first), width + 1 if i == n else end):
            row[j] = min(above[j - 1] + (word != reference[j - 1]), above[j] + 1, row[j - 1] + 1)
        table.append(row)
    return table


class _BitDistance:
    """Edit distances to one reference, a bit for each of its words."""

    def __init__(self, reference: Words) -> None:
        self.reference = reference
        self.masks: dict[str, int] = {}
        for index, word in enumerate(reference):
            self.masks[word] = self.masks.get(word, 0) | 1 << index

    def distance(self, words: Words) -> int:
        """As :func:`_distance_table` has it in its last corner."""
        size = len(self.reference)
        every, last = (1 << size) - 1, 1 << size - 1
        rises, falls, distance = every, 0, size
        for word in words:
            same = self.masks.get(word, 0)
            zero = (((same & rises) + rises) ^ rises) | same | falls
            across_rises = falls | ~(zero | rises) & every
            across_falls = rises & zero
            if across_rises & last:
                distance += 1
            elif across_falls & last:
                distance -= 1
            across_rises = across_rises << 1 | 1
            across_falls <<= 1
            rises = (across_falls | ~(zero | across_rises)) & every
            falls = across_rises & zero & every
        # A path of d steps has at most half of d and of the difference in length to either side of
        # the diagonal, so no path this short leaves the band; one that might is counted inside it.
        if distance + abs(len(words) - size) <= 2 * (BEAM_WIDTH - 2):
            return distance
        return _distance_table(words, self.reference)[-1][-1]
