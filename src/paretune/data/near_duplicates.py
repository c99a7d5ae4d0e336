"""Rows that are nearly equal: edited copies, which an exact comparison passes over.

Two texts are near where their sets of shingles (four characters in a row) have half of their union
in common. MinHash and its index by bands find candidates without comparing every pair (Broder 1997,
*On the resemblance and containment of documents*); the sets themselves decide.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from paretune.data.example import text_key
from paretune.objectives.example import Example

MIN_SIMILARITY = 0.5
"""Shared part of two sets of shingles, the Jaccard index. Of some 5,000 rows of news, questions and
messages in two languages two reach it by chance; an edited copy is at 0.6 to 0.95."""
SHINGLE_LENGTH = 4
MIN_SHINGLES = 16
"""A text with fewer is not compared: two short answers may well be alike."""
MAX_CHARACTERS = 1000
"""So many characters of each text's beginning are compared, which bounds the cost of a row."""
MAX_SHARE = 0.25
"""A shingle that more of the rows have belongs to a template, and tells no row from another."""
MAX_CANDIDATES = 20
"""Rows that a row is compared with at most."""
BANDS, ROWS_OF_BAND = 32, 3
"""The index of these finds 99 of 100 pairs of similarity 0.5, and nearly all above."""
_SAMPLE = 500
_MULTIPLIERS = np.array([2654435761, 2246822519, 3266489917, 668265263], dtype=np.uint32)

Shingles = NDArray[np.uint32]
"""Hashes of the different shingles of a text, sorted."""


@lru_cache(maxsize=2)  # a study's data is audited by each verb of a process
def find_near_duplicates(examples: tuple[Example, ...]) -> tuple[tuple[Example, Example], ...]:
    """Each example that is near an earlier one, with that one, in their order.

    Every text of the two is near its counterpart. Equal examples (:func:`text_key`) and those of
    one group are no such pairs. Of several copies only the first is kept to compare with, so that
    time and memory grow with the rows, not with their pairs.
    """
    distinct: dict[tuple[str, ...], Example] = {}
    for example in examples:
        distinct.setdefault(text_key(example), example)
    keys = list(distinct)
    # The text that differs most from row to row, by the number of an example's texts.
    telling = {}
    for size in {len(key) for key in keys}:
        columns = zip(*(key for key in keys if len(key) == size), strict=True)
        counts = [len(set(column)) for column in columns]
        telling[size] = counts.index(max(counts))
    sets = [_hash_shingles(key[telling[len(key)]]) for key in keys]
    # Shingles that many rows of a sample have are left out.
    if sample := sets[:: max(1, len(sets) // _SAMPLE)]:
        shingles, rows = np.unique(np.concatenate(sample), return_counts=True)
        common = shingles[rows > max(MAX_SHARE * len(sample), 2)]
        sets = [np.setdiff1d(shingles, common, assume_unique=True) for shingles in sets]
    long_enough = [i for i, shingles in enumerate(sets) if len(shingles) >= MIN_SHINGLES]
    signatures = MinHash.generator(
        [sets[i].tolist() for i in long_enough], num_perm=BANDS * ROWS_OF_BAND, hashfunc=int
    )
    index = MinHashLSH(num_perm=BANDS * ROWS_OF_BAND, params=(BANDS, ROWS_OF_BAND))
    pairs = []
    for i, signature in zip(long_enough, signatures, strict=True):
        candidates = sorted(index.query(signature))[:MAX_CANDIDATES]
        similar = [j for j in candidates if _compare(sets[i], sets[j]) >= MIN_SIMILARITY]
        near = [
            j
            for j in similar
            if len(keys[i]) == len(keys[j])
            and all(
                a == b or _compare(_hash_shingles(a), _hash_shingles(b)) >= MIN_SIMILARITY
                for a, b in zip(keys[i], keys[j], strict=True)
            )
        ]
        if not near:
            index.insert(i, signature)
        example, group = distinct[keys[i]], distinct[keys[i]].group
        apart = [
            distinct[keys[j]] for j in near if group is None or group != distinct[keys[j]].group
        ]
        pairs += [(example, apart[0])] if apart else []
    return tuple(pairs)


def _hash_shingles(text: str) -> Shingles:
    codes = np.frombuffer(text[:MAX_CHARACTERS].encode("utf-32-le", "surrogatepass"), dtype="<u4")
    if len(codes) < SHINGLE_LENGTH:
        return np.unique(codes.astype(np.uint32))
    windows = sliding_window_view(codes, SHINGLE_LENGTH)
    return np.unique((windows * _MULTIPLIERS).sum(axis=1, dtype=np.uint32))


def _compare(first: Shingles, second: Shingles) -> float:
    """The Jaccard index of two sets."""
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / (len(first) + len(second) - shared)
