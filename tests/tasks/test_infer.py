"""Guessing a task from a file, and building the guessed task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet
import pytest

from paretune.data.columns import uses_decimal_comma
from paretune.errors import DataError
from paretune.study import TaskSpec
from paretune.tasks import load_dataset
from paretune.tasks.infer import NamedColumns, infer_task, set_source_language


def table(path: Path, header: str, rows: list[str]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def load_task(task: dict[str, Any]) -> Any:
    return load_dataset(
        TaskSpec(**{k: tuple(v) if isinstance(v, list) else v for k, v in task.items()})
    )


def test_a_classification_with_a_test_file_beside(tmp_path: Path) -> None:
    rows = [f"{i}\t{'sport' if i % 3 else 'news'}\tA longer text number {i}." for i in range(20)]
    path = table(tmp_path / "topics" / "train.tsv", "id\ttopic\ttext", rows)
    table(
        tmp_path / "topics" / "test.tsv", "id\ttopic\ttext", [r.replace("A l", "L") for r in rows]
    )
    inferred = infer_task(path)
    assert inferred.task == {
        "name": "topics",
        "kind": "classification",
        "train": str(path),
        "test": str(path.with_name("test.tsv")),
        "text": "text",
        "label": "topic",
        "labels": ["news", "sport"],
        "id": "id",
    }
    assert set(inferred.reasons) == set(inferred.task)
    data = load_task(inferred.task)
    assert (len(data.train), len(data.test)) == (20, 20)


def test_a_pair_by_its_names_and_a_held_out_test(tmp_path: Path) -> None:
    rows = [f"Premise {i}.,Hypothesis {i}.,{'yes' if i % 2 else 'no'}" for i in range(20)]
    inferred = infer_task(table(tmp_path / "my nli.csv", "premise,hypothesis,label", rows))
    assert (inferred.task["name"], inferred.task["kind"]) == ("my-nli", "pair")
    assert (inferred.task["text"], inferred.task["text_pair"]) == ("premise", "hypothesis")
    assert "test" not in inferred.task and "a fifth of train" in inferred.reasons["test"]
    assert len(load_task(inferred.task).test) == 4


OPTIONS = ("ice", "water", "steam")
HUB_CHOICES: dict[str, Any] = {
    "ARC": lambda i: {
        "choices": {"text": [*OPTIONS], "label": ["A", "B", "C"]},
        "answerKey": "ABC"[i % 3],
    },
    "ARC's numbers": lambda i: {
        "choices": {"text": ["2", "3", "1"], "label": ["1", "2", "3"]},
        "answerKey": "123"[i % 3],
    },
    "either": lambda i: {
        "choices": {"text": [*OPTIONS], "label": [*("ABC", "123")[i % 2]]},
        "answerKey": ("ABC", "123")[i % 2][i % 3],
    },
    "objects": lambda i: {
        "choices": [{"label": n, "text": t} for n, t in zip("ABC", OPTIONS, strict=True)],
        "answerKey": "ABC"[i % 3],
    },
    "by name": lambda i: {
        "options": dict(zip("ABC", OPTIONS, strict=True)),
        "answer_idx": "ABC"[i % 3],
    },
    "columns of choices": lambda i: {
        **{f"option{place}": text for place, text in enumerate(OPTIONS, 1)},
        "answer": OPTIONS[i % 3],
    },
    "lists and letters": lambda i: {"options": [*OPTIONS], "answer": "ABC"[i % 3]},
    "columns from 1": lambda i: {
        **{f"answer{name}": text for name, text in zip("ABC", OPTIONS, strict=True)},
        "label": str(1 + i % 3),
    },
}


@pytest.mark.parametrize(
    ("form", "ending"),
    [
        *((form, ending) for form in HUB_CHOICES for ending in (".jsonl", ".csv")),
        ("ARC", ".parquet"),
        ("ARC", ".pandas.csv"),
    ],
)
def test_multiple_choice_as_the_hub_has_it(form: str, ending: str, tmp_path: Path) -> None:
    rows = [
        {"id": f"q{i}", "question": f"What is number {i}?", "concept": "water"}
        | HUB_CHOICES[form](i)
        for i in range(30)
    ]
    path = tmp_path / f"data{ending}"
    if ending == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "data.parquet")
        frame = pandas.DataFrame(rows)
        if ending == ".pandas.csv":  # writes the arrays that it reads
            frame = pandas.read_parquet(tmp_path / "data.parquet")
        if path.suffix == ".csv":
            frame.to_csv(path, index=False)
    inferred = infer_task(path)
    task = inferred.task
    assert (task["kind"], task["text"]) == ("multiple_choice", "question")
    data = load_task(task)
    examples = {e.uid: e for e in (*data.train, *data.test)}
    assert len(examples) == 30 and data.labels == ("0", "1", "2")
    for i in range(30):
        example = examples[f"train:q{i}"]
        assert example.label == i % 3
        assert example.segments[1][0] == f"What is number {i}?"
        assert example.segments[1][1] == ("3" if form == "ARC's numbers" else "water")


def test_a_sibling_without_labels_is_passed_over(tmp_path: Path) -> None:
    rows = [f"Some text {i},{'ab'[i % 2]}" for i in range(20)]
    path = table(tmp_path / "train.csv", "text,label", rows)
    table(tmp_path / "test.csv", "text,label", ["Some other text,"])
    table(tmp_path / "dev.csv", "text,label", ["Yet another text,a"])
    inferred = infer_task(path)
    assert inferred.task["test"] == str(tmp_path / "dev.csv")
    assert inferred.remarks[0].startswith("test.csv is not used: test.csv: 1 of 1 rows")
    assert inferred.remarks[1].startswith("dev.csv in the same folder is taken as the test")


@pytest.mark.parametrize(
    ("content", "misfit"),
    [
        ("id,question\n1,What is that?\n", ': has no column "text", and 1 more fault'),
        ("text,label\nx,a\ny,c\nz,c\n", ' line 3: label "c" is not one of a, b, and 1 more fault'),
        ("text,label\nx,a,b\n", " line 2: has 3 fields, the header has 2"),
    ],
)
def test_a_test_file_that_does_not_fit_is_named_and_not_used(
    content: str, misfit: str, tmp_path: Path
) -> None:
    rows = [f"Some text {i},{'ab'[i % 2]}" for i in range(20)]
    path = table(tmp_path / "train.csv", "text,label", rows)
    (tmp_path / "test.csv").write_text(content, encoding="utf-8")
    inferred = infer_task(path)
    assert "test" not in inferred.task
    assert inferred.remarks[0].startswith(f"test.csv is not used: test.csv{misfit}")
    with pytest.raises(DataError, match="cannot be the test file"):
        infer_task(path, test=str(tmp_path / "test.csv"))


def test_a_test_file_is_refused_by_none_and_a_validation_file_is_named(tmp_path: Path) -> None:
    rows = [f"Some text {i},{'ab'[i % 2]}" for i in range(20)]
    path = table(tmp_path / "train.csv", "text,label", rows)
    for name in ("test.csv", "valid.csv", "other.csv"):
        table(tmp_path / name, "text,label", ["Another text,a", "And another,B"])
    inferred = infer_task(path)
    assert inferred.task["test"] == str(tmp_path / "test.csv")
    used, unused = inferred.remarks
    assert "taken as the test; --test none" in used and unused.startswith("valid.csv is not used")
    refused = infer_task(path, test="none")
    assert "test" not in refused.task and refused.remarks == ()
    other = str(tmp_path / "other.csv")
    assert infer_task(path, test=other).task["test"] == other


@pytest.mark.parametrize("names", ["text,urgent,team", "text,category,topic"])
def test_a_column_with_gaps_is_no_label_where_another_is_full(names: str, tmp_path: Path) -> None:
    rows = [f"Some text {i},{('yes', 'no', '')[i % 3]},{'abcd'[i % 4]}" for i in range(40)]
    inferred = infer_task(table(tmp_path / "a.csv", names, rows))
    assert inferred.task["label"] == names.split(",")[2]
    assert inferred.remarks == (f"a.csv: its column {names.split(',')[1]} is not used.",)


def test_spellings_of_one_label_and_rows_without_one_are_remarked(tmp_path: Path) -> None:
    rows = [f"Some text {i},{('Yes', 'no', 'yes', 'Yes', '')[i % 5]}" for i in range(40)]
    path = table(tmp_path / "a.csv", "text,label", rows)
    spellings, unlabelled = infer_task(path).remarks
    assert '"Yes" (16) and "yes" (8)' in spellings and 'labels: ["Yes", "no"]' in spellings
    assert "8 of 40 rows" in unlabelled and "--drop-unlabelled" in unlabelled
    dropping = infer_task(path, drop_unlabelled=True)
    assert dropping.task["drop_unlabelled"] is True and dropping.remarks == (spellings,)
    assert len(load_task(dropping.task).train) + len(load_task(dropping.task).test) == 32


def test_null_values_among_labels_are_remarked_and_dropped_on_request(tmp_path: Path) -> None:
    rows = [f"Some text {i},{('good', 'bad', 'None', 'bad', 'nan')[i % 5]}" for i in range(40)]
    path = table(tmp_path / "a.csv", "text,label", rows)
    (remark,) = infer_task(path).remarks
    assert remark.startswith('"None" (8), "nan" (8) in "label"') and "drop" in remark
    dropping = infer_task(path, drop_unlabelled=True)
    assert dropping.task["labels"] == ["bad", "good"] and dropping.remarks == ()
    assert len(load_task(dropping.task).train) + len(load_task(dropping.task).test) == 24


def test_numbers_with_null_values_between_are_numbers(tmp_path: Path) -> None:
    rows = [f"Some text {i},{'nan' if i % 10 == 0 else i / 7}" for i in range(60)]
    inferred = infer_task(table(tmp_path / "a.csv", "text,label", rows))
    assert inferred.task["kind"] == "regression"
    assert "6 of 60 rows have no label" in inferred.remarks[0]


def test_empty_cells_and_broken_lists_of_several_labels_are_remarked(tmp_path: Path) -> None:
    cells = ["['good', 'x']", "['x']", "['good', 'y']", "['x', 'y'"]
    rows = [f'Some text {i},"{cells[i % 4]}"' for i in range(40)]
    inferred = infer_task(table(tmp_path / "a.csv", "text,label", rows))
    assert inferred.task["kind"] == "multilabel" and inferred.task["labels"] == ["good", "x", "y"]
    (remark,) = inferred.remarks
    assert "a.csv line 5: ['x', 'y' is not a whole list. 10 rows are like this one" in remark
    rows = [f"Some text {i},{('a|b', 'b', 'a', 'c|a', '')[i % 5]}" for i in range(40)]
    (remark,) = infer_task(table(tmp_path / "b.csv", "text,label", rows)).remarks
    assert "8 of 40 rows" in remark and "an empty set of labels" in remark


def test_no_label_or_no_text_is_told_with_the_columns_and_the_option(tmp_path: Path) -> None:
    rows = [f"Text number {i},Further text {i}" for i in range(20)]
    with pytest.raises(DataError, match=r"like a label.*columns are one, two.*label=.COLUMN"):
        infer_task(table(tmp_path / "a.csv", "one,two", rows))
    with pytest.raises(DataError, match=r"no column looks like text.*text=.COLUMN"):
        infer_task(table(tmp_path / "b.csv", "label", ["a", "b"] * 10))


STRANGE = {
    "one class": ([f"Text number {i},sport" for i in range(20)], "1 different value in"),
    "a value a row": ([f"Text number {i},c{i}" for i in range(50)], "50 different values in 50"),
    "long labels": (
        [f"Text {i},{'a long label ' * 9}{i % 2}" for i in range(50)],
        "2 different values",
    ),
}


@pytest.mark.parametrize("case", STRANGE)
def test_an_unusual_column_called_label_is_taken_and_the_reason_says_what_is_unusual(
    case: str, tmp_path: Path
) -> None:
    rows, reason = STRANGE[case]
    inferred = infer_task(table(tmp_path / "a.csv", "text,label", rows))
    assert (inferred.task["text"], inferred.task["label"]) == ("text", "label")
    assert reason in inferred.reasons["label"]
    assert len(inferred.task["labels"]) == len({row.split(",")[1].strip() for row in rows})  # type: ignore[arg-type]


def test_two_texts_and_two_sides_may_be_named(tmp_path: Path) -> None:
    rows = [f"Some words {i},Other words {i},{'ab'[i % 2]}" for i in range(20)]
    path = table(tmp_path / "a.csv", "one,two,mark", rows)
    task = infer_task(path, NamedColumns(text="two", pair="one")).task
    assert (task["kind"], task["text"], task["text_pair"]) == ("pair", "two", "one")
    assert task["label"] == "mark"
    task = infer_task(path, NamedColumns(source="one", target="two")).task
    assert task["kind"] == "translation"
    assert (task["source_lang"], task["target_lang"]) == ("one", "two")
    with pytest.raises(DataError, match='has no column "three"'):
        infer_task(path, NamedColumns(text="three"))


def test_a_choice_with_a_question_of_its_own(tmp_path: Path) -> None:
    rows = [
        f"The street was wet {i}.,It rained {i}.,I fell {i}.,{question},{i // 2 % 2}"
        for i, question in enumerate(("cause", "effect") * 10)
    ]
    inferred = infer_task(table(tmp_path / "c.csv", "premise,choice1,choice2,question,label", rows))
    assert (inferred.task["text"], inferred.task["question"]) == ("premise", "question")
    data = load_task(inferred.task)
    first = next(e for e in data.train if e.uid == "train:1")
    assert first.segments == (
        ("The street was wet 1. effect", "It rained 1."),
        ("The street was wet 1. effect", "I fell 1."),
    )
    english = load_task(
        {**inferred.task, "language": "en"}
    )  # COPA's words, asked as COPA asks them
    first = next(e for e in english.train if e.uid == "train:1")
    assert first.segments[0][0] == "The street was wet 1. What happened as a result?"
    with pytest.raises(ValueError, match="question goes with kind multiple_choice"):
        TaskSpec(name="x", kind="pair", train="c.csv", text="premise", text_pair="choice1",
                 label="label", question="question")  # fmt: skip


def conversation(i: int) -> list[dict[str, str]]:
    return [{"from": "human", "value": f"Say {i}."}, {"from": "gpt", "value": f"It is {i}."}]


UNUSED: dict[str, Any] = {
    "texts": lambda i: {"text": f"A text {i}.", "label": "ab"[i % 2]},
    "pairs": lambda i: {"premise": f"It is {i}.", "hypothesis": f"No {i}.", "label": "ab"[i % 2]},
    "choices": lambda i: {"question": f"Is it {i}?", "choices": ["a", "b"], "answer": i % 2},
    "sets": lambda i: {"text": f"A text {i}.", "labels": ["a", "b"][: i % 3]},
    "tags": lambda i: {"tokens": ["Ana", f"n{i}"], "ner_tags": ["B-PER", "O"]},
    "completions": lambda i: {"prompt": f"Say {i}.", "completion": f"It is {i}."},
    "conversations": lambda i: {"conversations": conversation(i), "system": "Be short."},
    "preferences": lambda i: {"prompt": f"Say {i}.", "chosen": f"It is {i}.", "rejected": "No."},
}


@pytest.mark.parametrize("form", UNUSED)
def test_columns_that_are_not_used_are_named(form: str, tmp_path: Path) -> None:
    rows = [UNUSED[form](i) | {"id": i, "place": f"here {i}", "year": 2000 + i} for i in range(30)]
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    inferred = infer_task(path)
    what = "its columns place and year are not used."
    assert inferred.task["id"] == "id" and inferred.remarks == (f"data.jsonl: {what}",)
    (note,) = [f for f in load_task(inferred.task).findings if f.code == "unused-columns"]
    assert (note.severity, note.where, note.what) == ("note", "data.jsonl", what)
    used = [{key: row[key] for key in (*UNUSED[form](i), "id")} for i, row in enumerate(rows)]
    path.write_text("\n".join(map(json.dumps, used)))
    assert infer_task(path).remarks == ()
    assert not [f for f in load_task(inferred.task).findings if f.code == "unused-columns"]


def test_fields_of_conllu_that_are_not_used_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.conllu"
    lines = (f"{i}\tw{i}\tw\t{'NOUN' if i % 2 else 'VERB'}" + "\t_" * 6 for i in range(1, 5))
    path.write_text("\n".join((*lines, "", "")) * 4)
    assert infer_task(path).remarks == ("a.conllu: its columns id and lemma are not used.",)


def decimals(i: int) -> str:
    return f"{i // 10},{i % 10}"


@pytest.mark.parametrize("names", ["besedilo;ocena", "napisano;dano"])
def test_decimal_commas_are_numbers(tmp_path: Path, names: str) -> None:
    rows = [f"A review with the number {i} in it;{decimals(i)}" for i in range(40)]
    path = table(tmp_path / "ocene.csv", names, rows)
    inferred, (text, label) = infer_task(path), names.split(";")
    task = inferred.task
    assert (task["kind"], task["text"], task["label"]) == ("regression", text, label)
    data = load_task(inferred.task)
    known = {e.uid: e.label for e in (*data.train, *data.test)}
    assert known == {f"train:{i}": i / 10 for i in range(40)}
    (note,) = [f for f in data.findings if f.code == "decimal-comma"]
    assert note.severity == "note" and note.where == "ocene.csv line 2"
    assert note.what == f'"0,0" in "{label}" was read as 0.0 (40 such rows in all).'


def test_a_comma_parts_decimals_only_where_that_is_beyond_doubt() -> None:
    for values in (["3,5", "4"], ["3,5", "1,234"], ["0,125"], ["3,5", "2.5"]):
        assert uses_decimal_comma(values)
    # Thousands, perhaps, and what is no number.
    for values in (["1,234"], ["1,234,567"], ["1.234,5"], ["3,5 kg"], ["4", "3.5"]):
        assert not uses_decimal_comma(values)


def test_numbers_to_find_and_a_table_to_find_them_from(tmp_path: Path) -> None:
    rows = [f"h{i},{i % 7},{'flat' if i % 2 else 'house'},{100 + i * 1.5}" for i in range(40)]
    path = table(tmp_path / "houses.csv", "id,rooms,kind,price", rows)
    inferred = infer_task(path)
    assert (
        inferred.task["kind"] == "regression" and "price holds numbers" in inferred.reasons["kind"]
    )
    assert inferred.task["features"] == ["rooms", "kind"] and inferred.task["id"] == "id"
    assert not {"text", "labels"} & set(inferred.task)
    data = load_task(inferred.task)
    assert data.kind == "regression" and data.labels == ("price",) and data.metric == "r2"
    assert data.train[0].features[0] == float(data.train[0].segments[0][0].split()[1].rstrip("."))


def test_few_numbers_are_classes(tmp_path: Path) -> None:
    """Stars from 1 to 5 are five classes until somebody says that they are numbers."""
    rows = [f"A review with the number {i} in it,{1 + i % 5}" for i in range(60)]
    inferred = infer_task(table(tmp_path / "reviews.csv", "review,label", rows))
    assert inferred.task["kind"] == "classification"
    assert inferred.task["labels"] == ["1", "2", "3", "4", "5"]


def test_without_a_telling_name_it_is_the_last_column_of_a_table(tmp_path: Path) -> None:
    rows = [f"{i % 2},{i / 3:.2f},{i * 1.25}" for i in range(40)]
    path = table(tmp_path / "patients.csv", "sex,bmi,progression", rows)
    inferred = infer_task(path)
    assert (inferred.task["label"], inferred.task["kind"]) == ("progression", "regression")
    assert "check this guess" in inferred.reasons["label"]
    inferred = infer_task(path, NamedColumns("sex"))
    assert (inferred.task["label"], inferred.task["kind"]) == ("sex", "classification")
    assert inferred.task["features"] == ["bmi", "progression"]
    with pytest.raises(DataError, match=r'no column "age"\. Its columns are sex, bmi, progression'):
        infer_task(path, NamedColumns("age"))


LINES = [(f"Ena poved {i} o šoli.", f"One sentence {i} on school.") for i in range(20)]


@pytest.mark.parametrize("header", ["sl,en", "sl_seq,en_seq", "id,sl,en", "source,target"])
def test_two_columns_called_by_languages_are_a_translation(tmp_path: Path, header: str) -> None:
    rows = [f"{a},{b}" for a, b in LINES]
    if header.startswith("id"):
        rows = [f"{i},{row}" for i, row in enumerate(rows)]
    task = infer_task(table(tmp_path / "train.csv", header, rows)).task
    table(tmp_path / "dev.csv", header, rows)
    assert infer_task(tmp_path / "train.csv").task["test"] == str(tmp_path / "dev.csv")
    source, target = ("source", "target") if header == "source,target" else ("sl", "en")
    assert task["kind"] == "translation"
    assert (task["source_lang"], task["target_lang"]) == (source, target)
    assert ("text" in task) == (header == "sl_seq,en_seq")
    data = load_task(task)
    assert {e.target for e in (*data.train, *data.test)} == {b for _, b in LINES}


def test_a_nested_pair_is_a_translation(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"id": i, "translation": {"de": a, "fr": b}} for i, (a, b) in enumerate(LINES)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    task = infer_task(path).task
    assert (task["source_lang"], task["target_lang"]) == ("de", "fr")
    assert len(load_task(task).train) > 9


def test_two_files_called_by_languages_are_a_translation(tmp_path: Path) -> None:
    for word in ("train", "test"):
        for place, language in enumerate(("sl", "en")):
            lines = "".join(f"{word} {i} {pair[place]}\n" for i, pair in enumerate(LINES))
            (tmp_path / f"{word}.{language}").write_text(lines, encoding="utf-8")
    inferred = infer_task(tmp_path / "train.en")
    assert inferred.task["train"] == str(tmp_path / "train")
    assert inferred.task["test"] == str(tmp_path / "test")
    assert (inferred.task["source_lang"], inferred.task["target_lang"]) == ("en", "sl")
    assert len(load_task(inferred.task).test) == 20
    back = load_task(set_source_language(inferred.task, "sl"))
    assert back.languages == ("sl", "en") and "poved" in back.train[0].segments[0][0]
    with pytest.raises(DataError, match="It holds en and sl"):
        set_source_language(inferred.task, "de")
    (tmp_path / "train.de").write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match="2 files in other languages in the same folder"):
        infer_task(tmp_path / "train.en")


def test_short_columns_with_names_of_languages_are_no_translation(tmp_path: Path) -> None:
    rows = [f"x{i % 3},{'yes' if i % 2 else 'no'}" for i in range(20)]
    assert infer_task(table(tmp_path / "a.csv", "no,is", rows)).task["kind"] == "classification"
    labelled = [f"The text of number {i}.,{'one' if i % 2 else 'two'}" for i in range(20)]
    assert infer_task(table(tmp_path / "b.csv", "en,is", labelled)).task["kind"] == "classification"


def named_parts(folder: Path, column: str, *names: str) -> Path:
    """``data.csv`` of 60 rows, a column of which names the part of each."""
    rows = [f"Text number {i}.,{'ab'[i % 2]},{names[i % len(names)]}" for i in range(60)]
    return table(folder / "data.csv", f"text,label,{column}", rows)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("train", "train", "test"), "40 train, 20 test."),
        (("Train", "train", "Validation"), "40 train, 20 validation. Those of validation are"),
        (
            ("train", "dev", "test"),
            "20 train, 20 validation, 20 test. Those of validation are",
        ),
    ],
)
def test_a_column_of_parts_is_obeyed(names: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    path = named_parts(tmp_path, "split", *names)
    table(tmp_path / "test.csv", "text,label,split", ["Another text.,a,test"])
    inferred = infer_task(path)
    assert inferred.task["split_by"] == "split" and "test" not in inferred.task
    assert f'"split" says which rows are which: {sentence}' in inferred.remarks[0]
    data = load_task(inferred.task)
    parts = {name: {e.where for e in getattr(data, name)} for name in ("train", "test")}
    lines = {
        name: {f"data.csv line {i + 2}" for i in range(60) if names[i % 3].lower() in called}
        for name, called in (("train", ("train",)), ("test", (names[2].lower(),)))
    }
    assert parts == lines
    assert [f.severity for f in data.findings if f.code == "split-by"] == ["note"]
    with pytest.raises(DataError, match="Leave out test="):
        infer_task(path, test="none")


def test_a_column_of_parts_that_is_not_obeyed_is_warned_of(tmp_path: Path) -> None:
    task = infer_task(named_parts(tmp_path, "part", "train", "test")).task
    del task["split_by"]
    codes = {f.code: f.remedy for f in load_task(task).findings if f.severity == "warning"}
    assert "split_by: part" in codes["parts-mixed"]


def test_what_is_no_part_is_named_by_its_line(tmp_path: Path) -> None:
    task = infer_task(named_parts(tmp_path, "part", "train", "test")).task
    path = named_parts(tmp_path, "part", "train", "test", "")
    with pytest.raises(DataError, match=r'line 4.* "part", which is no part \(20 of 60 rows\)'):
        load_task(task)
    named_parts(tmp_path, "part", "test", "dev")
    with pytest.raises(DataError, match='"part" calls no row train'):
        load_task(task)
    with pytest.raises(DataError, match='no column "other"'):
        load_task({**task, "split_by": "other"})
    with pytest.raises(ValueError, match="split_by takes the test part from train"):
        TaskSpec(**{**task, "labels": ("a", "b"), "test": str(path)})
    named_parts(tmp_path, "part", "train", "test", "elsewhere")
    assert "split_by" not in infer_task(path).task
