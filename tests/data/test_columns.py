"""Columns as texts, numbers and labels."""

from __future__ import annotations

import pytest

from paretune.data.columns import (
    cell_text,
    feature_texts,
    make_row_template,
    parse_number,
    read_features,
)
from paretune.data.finding import InvalidValueError
from paretune.data.labels import choice_parser, match_label, sort_labels
from paretune.data.rows import Row
from paretune.errors import StudyError

COLUMNS = ("rooms", "kind", "year")
ROW = Row({"rooms": "4", "kind": " flat ", "year": None, "price": 9}, "houses.csv line 2")


def test_by_default_each_column_is_named_and_what_is_missing_is_passed_over() -> None:
    segments = make_row_template(COLUMNS, None)(feature_texts(ROW, COLUMNS))
    assert segments == (("rooms: 4. kind: flat.", None),)


def test_a_template_of_ones_own() -> None:
    segments = make_row_template(COLUMNS, "A {kind} of {rooms} rooms, built {year}.")(
        feature_texts(ROW, COLUMNS)
    )
    assert segments == (("A flat of 4 rooms, built unknown.", None),)


def test_a_value_that_looks_like_a_place_is_left_as_it_is() -> None:
    row = Row({"rooms": "{kind}", "kind": r"\1", "year": 1}, "x line 1")
    segments = make_row_template(COLUMNS, "{rooms} {kind} {year}")(feature_texts(row, COLUMNS))
    assert segments == ((r"{kind} \1 1", None),)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("A {kind} of {room} rooms in {year}.", r'"{room}" is not a feature; "{rooms}" is missing'),
        ("A house.", r'"{rooms}" is missing; "{kind}" is missing; "{year}" is missing'),
    ],
)
def test_a_template_must_name_every_feature(template: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        make_row_template(COLUMNS, template)


def test_values_are_numbers_texts_or_nothing() -> None:
    assert read_features(ROW, COLUMNS) == (4.0, "flat", None)
    with pytest.raises(InvalidValueError, match="holds a list"):
        read_features(Row({"a": [1]}, "x.jsonl line 7"), ("a",))


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("1e3", 1000.0),
        (" 2.5 ", 2.5),
        (3, 3.0),
        (True, None),
        ("nan", None),
        ("", None),
        ("a", None),
        (None, None),
        (float("inf"), None),
    ],
)
def test_what_is_a_number(value: object, number: float | None) -> None:
    assert parse_number(value) == number


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
