"""TER's edits against sacreBLEU's own search, on short, long, shuffled and repeated words."""

from __future__ import annotations

import numpy as np
import pytest
from sacrebleu.metrics.lib_ter import translation_edit_rate

from paretune.metrics.ter_edits import count_edits


def changed(words: list[str], times: int, rng: np.random.Generator) -> list[str]:
    """Words replaced, removed, put in and moved."""
    out = list(words)
    for _ in range(times):
        at = int(rng.integers(len(out) + 1))
        what = rng.choice(["replace", "remove", "put", "move"])
        if what == "put":
            out.insert(at, str(rng.choice(list("abcdefgh"))))
        elif what == "move":
            size, to = int(rng.integers(1, 6)), int(rng.integers(len(out) + 1))
            phrase = out[at : at + size]
            del out[at : at + size]
            out[to:to] = phrase
        else:
            out[at : at + 1] = ["new"] if what == "replace" else []
    return out


@pytest.mark.parametrize("alphabet", [3, 12, 400])
@pytest.mark.parametrize("length", [1, 4, 11, 24, 30, 60])
def test_edits_are_sacrebleus(length: int, alphabet: int) -> None:
    rng = np.random.default_rng([length, alphabet])
    for times in (0, 1, 2, 4, 8, 20):
        reference = [str(rng.integers(alphabet)) for _ in range(length)]
        words = changed(reference, times, rng)
        assert count_edits(words, reference) == translation_edit_rate(words, reference)[0]


@pytest.mark.parametrize(
    ("words", "reference", "count"),
    [
        ("", "", 0),
        ("", "a b", 2),
        ("a b", "", 2),
        ("c d a b", "a b c d", 1),
        ("a b c", "a x c", 1),
    ],
)
def test_small_cases(words: str, reference: str, count: int) -> None:
    assert count_edits(words.split(), reference.split()) == count


def test_a_band_that_is_left_is_counted_as_sacrebleu_does() -> None:
    # Sixty words that share nothing in place: the shortest path runs far beside the diagonal.
    reference = [str(i) for i in range(70)]
    words = [*(f"x{i}" for i in range(30)), *reference[:40]]
    assert count_edits(words, reference) == translation_edit_rate(words, reference)[0]
    assert count_edits(words[:3], reference) == translation_edit_rate(words[:3], reference)[0]
