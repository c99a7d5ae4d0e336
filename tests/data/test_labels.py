"""Spellings of labels, and the answers of multiple choice."""

from __future__ import annotations

import pytest

from paretune.data.columns import cell_text
from paretune.data.finding import InvalidValueError
from paretune.data.labels import choice_parser, match_label, sort_labels


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, "true"),
        (1, "1"),
        (1.0, "1"),
        (1.5, "1.5"),
        (" yes ", "yes"),
        ("", None),
        ("  ", None),
        (None, None),
        (float("nan"), None),
        ("1.0", "1.0"),
    ],
)
def test_spell(value: object, expected: str | None) -> None:
    assert cell_text(value) == expected


@pytest.mark.parametrize("value", [True, "true", "True", "TRUE", 1, "1", "1.0", 1.0, "yes"])
def test_every_published_way_to_write_true_is_one_label(value: object) -> None:
    aliases = {"0": "false", "1": "true", "no": "false", "yes": "true"}
    assert match_label(value, ("false", "true"), aliases) == 1


def test_the_exact_spelling_wins_and_doubt_is_no_match() -> None:
    assert match_label("Yes", ("yes", "Yes")) == 1
    assert match_label("YES", ("yes", "Yes")) is None
    assert match_label("maybe", ("yes", "no")) is None
    assert match_label(0, ("1", "0")) == 1


def test_choice_by_index_column_and_text() -> None:
    texts = {"ending0": "It rained.", "ending1": "It snowed."}
    parse = choice_parser(list(texts), None)
    for value in (1, "1", "1.0", 1.0, "ending1", "It snowed."):
        assert parse(value, texts) == 1
    for wrong, message in (
        (2, "not an index from 0 to 1"),
        (-1, "not an index"),
        (None, "has no label."),
    ):
        with pytest.raises(InvalidValueError, match=message):
            parse(wrong, texts)


def test_a_label_that_fits_two_choices_is_not_guessed() -> None:
    with pytest.raises(InvalidValueError, match="more than one"):
        choice_parser(("a", "b"), None)("1", {"a": "1", "b": "2"})
    assert choice_parser(("a", "b"), ("1", "2"))("1", {"a": "1", "b": "2"}) == 0
    with pytest.raises(InvalidValueError, match="more than one"):
        choice_parser(("a", "b"), None)("same", {"a": "same", "b": "same"})


def test_numbers_sort_as_numbers() -> None:
    assert sort_labels({"10", "9", "-1"}) == ("-1", "9", "10")
    assert sort_labels({"b", "a", "10"}) == ("10", "a", "b")
