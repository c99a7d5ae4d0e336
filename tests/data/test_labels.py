"""Spellings of labels, and the answers of multiple choice."""

from __future__ import annotations

import pytest

from paretune.data.labels import choice, in_order, match, spell


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
    assert spell(value) == expected


@pytest.mark.parametrize("value", [True, "true", "True", "TRUE", 1, "1", "1.0", 1.0, "yes"])
def test_every_published_way_to_write_true_is_one_label(value: object) -> None:
    aliases = {"0": "false", "1": "true", "no": "false", "yes": "true"}
    assert match(value, ("false", "true"), aliases) == 1


def test_the_exact_spelling_wins_and_doubt_is_no_match() -> None:
    assert match("Yes", ("yes", "Yes")) == 1
    assert match("YES", ("yes", "Yes")) is None
    assert match("maybe", ("yes", "no")) is None
    assert match(0, ("1", "0")) == 1


def test_choice_by_index_column_and_text() -> None:
    columns, texts = ("ending0", "ending1"), ("It rained.", "It snowed.")
    for value in (1, "1", "1.0", 1.0, "ending1", "It snowed."):
        assert choice(value, columns, texts) == 1
    assert "no index from 0 to 1" in str(choice(2, columns, texts))
    assert "no index" in str(choice(-1, columns, texts))
    assert choice(None, columns, texts) == "has no label."


def test_a_label_that_fits_two_choices_is_not_guessed() -> None:
    assert "more than one" in str(choice("1", ("a", "b"), ("1", "2")))
    assert choice("1", ("a", "b"), ("1", "2"), names=("1", "2")) == 0
    assert "more than one" in str(choice("same", ("a", "b"), ("same", "same")))


def test_numbers_sort_as_numbers() -> None:
    assert in_order({"10", "9", "-1"}) == ("-1", "9", "10")
    assert in_order({"b", "a", "10"}) == ("10", "a", "b")
