"""Spans are found at their index, or looked for; and marked without losing a character."""

from __future__ import annotations

import pytest

from paretune_slovene.tasks.wsc import Span, find_span, mark_spans

TEXT = "Ana  je Maji, ki je zbolela, prinesla juho. Ana je dobra."


@pytest.mark.parametrize(
    ("words", "index", "matched_by", "start"),
    [
        ("Ana", 0, "at", 0),
        ("Ana", 8, "at", 44),
        ("ana", 8.0, "at", 44),  # a spreadsheet's number, another case
        ("Maji", 2, "at", 8),  # the word of the text has a comma
        ("Maji,", 2, "at", 8),  # or the span has
        ("je zbolela", 4, "at", 17),
        ("Maji", 5, "only", 8),
        ("zbolela", None, "only", 20),
        ("je", 5, "nearest", 17),
        ("Ana", -1, "nearest", None),
        ("ju", 7, None, None),  # not as a part of "juho"
        ("Eva", 0, None, None),
        ("je", "x", None, None),  # three places, and no index that could tell
        ("...", 0, None, None),
    ],
)
def test_spans_are_found(
    words: str, index: object, matched_by: str | None, start: int | None
) -> None:
    span = find_span(TEXT, words, index)
    if matched_by is None or start is None:
        assert span is None
    else:
        assert span is not None
        assert (span.matched_by, span.start) == (matched_by, start)
        assert TEXT[span.start : span.end].casefold() == words.casefold().strip(",")


def test_marks_stand_around_the_spans_in_any_order() -> None:
    one, two = find_span(TEXT, "Ana", 8), find_span(TEXT, "Maji", 2)
    assert one and two
    want = "Ana  je # Maji #, ki je zbolela, prinesla juho. * Ana * je dobra."
    assert mark_spans(TEXT, [(one, "*"), (two, "#")]) == want
    assert mark_spans(TEXT, [(two, "#"), (one, "*")]) == want


@pytest.mark.parametrize(
    ("outer", "inner", "want"),
    [
        ((0, 5), (0, 1), "* # a # bcd *"),
        ((0, 5), (4, 5), "* a bc # d # *"),
        ((0, 5), (2, 4), "* a # bc # d *"),
    ],
)
def test_the_longer_of_two_has_its_marks_outside(
    outer: tuple[int, int], inner: tuple[int, int], want: str
) -> None:
    spans = [(Span(*inner, "at"), "#"), (Span(*outer, "at"), "*")]
    assert "".join(mark_spans("a bcd", spans).split()) == "".join(want.split())
