"""Rows of a table as sentences."""

from __future__ import annotations

import pytest

from paretune.data.columns import (
    feature_texts,
    make_row_template,
    parse_number,
    read_features,
)
from paretune.data.finding import InvalidValueError
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
