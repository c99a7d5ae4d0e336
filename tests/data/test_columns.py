"""Columns as texts, numbers and labels."""

from __future__ import annotations

import pytest

from paretune.data.columns import cell_text, make_table_reader, parse_number
from paretune.data.finding import InvalidValueError
from paretune.data.labels import match_label, read_choice, read_class, sort_labels
from paretune.errors import StudyError

COLUMNS = ("rooms", "kind", "year")
ROW = {"rooms": "4", "kind": " flat ", "year": None, "price": 9}


@pytest.mark.parametrize(
    ("template", "values", "sentence"),
    [
        (None, ROW, "rooms: 4. kind: flat."),  # what is missing is passed over
        ("A {kind} of {rooms} rooms, built {year}.", ROW, "A flat of 4 rooms, built unknown."),
        ("{rooms} {kind} {year}", {"rooms": "{kind}", "kind": r"\1", "year": 1}, r"{kind} \1 1"),
    ],
)
def test_a_row_of_a_table_becomes_a_sentence(
    template: str | None, values: dict[str, object], sentence: str
) -> None:
    assert make_table_reader(COLUMNS, template)(values)["segments"] == ((sentence, None),)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("A {kind} of {room} rooms in {year}.", r'"{room}" is not a feature; "{rooms}" is missing'),
        ("A house.", r'"{rooms}" is missing; "{kind}" is missing; "{year}" is missing'),
    ],
)
def test_a_template_must_name_every_feature(template: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        make_table_reader(COLUMNS, template)


def test_values_are_numbers_texts_or_nothing() -> None:
    assert make_table_reader(COLUMNS, None)(ROW)["features"] == (4.0, "flat", None)
    with pytest.raises(InvalidValueError, match="holds a list"):
        make_table_reader(("a",), None)({"a": [1]})


def test_what_is_a_number() -> None:
    assert [parse_number(value) for value in ("1e3", " 2.5 ", 3)] == [1000.0, 2.5, 3.0]
    for value in (True, "nan", "", "a", None, float("inf")):
        assert parse_number(value) is None


def test_what_a_cell_says() -> None:
    values = (True, 1, 1.0, 1.5, " yes ", "1.0")
    assert [cell_text(value) for value in values] == ["true", "1", "1", "1.5", "yes", "1.0"]
    for value in ("", "  ", None, float("nan")):
        assert cell_text(value) is None


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
    for value in (1, "1", "1.0", 1.0, "ending1", "It snowed."):
        assert read_choice({"label": value}, "label", texts) == 1
    for wrong, message in (
        (2, "not an index from 0 to 1"),
        (-1, "not an index"),
        (None, "has no label."),
    ):
        with pytest.raises(InvalidValueError, match=message):
            read_choice({"label": wrong}, "label", texts)


@pytest.mark.parametrize(("value", "texts"), [("1", ("1", "2")), ("same", ("same", "same"))])
def test_a_label_that_fits_two_choices_is_not_guessed(value: str, texts: tuple[str, str]) -> None:
    with pytest.raises(InvalidValueError, match="more than one"):
        read_choice({"label": value}, "label", dict(zip("ab", texts, strict=True)))
    assert read_class({"label": "1"}, "label", ("1", "2")) == 0


def test_numbers_sort_as_numbers() -> None:
    assert sort_labels({"10", "9", "-1"}) == ("-1", "9", "10")
    assert sort_labels({"b", "a", "10"}) == ("10", "a", "b")
