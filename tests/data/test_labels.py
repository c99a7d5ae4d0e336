"""Spellings of labels, and the answers of multiple choice."""

from __future__ import annotations

import pytest

from paretune.data.labels import cell_text, match_choice, match_label, sort_labels


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
    columns, texts = ("ending0", "ending1"), ("It rained.", "It snowed.")
    for value in (1, "1", "1.0", 1.0, "ending1", "It snowed."):
        assert match_choice(value, columns, texts) == 1
    assert "not an index from 0 to 1" in str(match_choice(2, columns, texts))
    assert "not an index" in str(match_choice(-1, columns, texts))
    assert match_choice(None, columns, texts) == "has no label."


def test_a_label_that_fits_two_choices_is_not_guessed() -> None:
    assert "more than one" in str(match_choice("1", ("a", "b"), ("1", "2")))
    assert match_choice("1", ("a", "b"), ("1", "2"), names=("1", "2")) == 0
    assert "more than one" in str(match_choice("same", ("a", "b"), ("same", "same")))


def test_numbers_sort_as_numbers() -> None:
    assert sort_labels({"10", "9", "-1"}) == ("-1", "9", "10")
    assert sort_labels({"b", "a", "10"}) == ("10", "a", "b")
