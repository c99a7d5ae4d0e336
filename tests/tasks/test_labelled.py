"""The user's own data: every format and kind, labels in every form, and what is refused."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from paretune.data.audit import audit
from paretune.data.example import Dataset, describe_groups
from paretune.data.finding import Finding
from paretune.errors import DataError, StudyError
from paretune.objectives import ModelPredictions
from paretune.study import TaskSpec
from paretune.tasks import load_dataset
from paretune.training.evaluation.evaluator import to_table

ANIMALS = "ant bee cat dog eel fox gnu hen ibis jay kite lark mole newt owl pig rat seal toad wren"
WORDS = ANIMALS.split()


def csv(folder: Path, name: str, header: str, rows: list[str]) -> str:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return str(path)


def plain(folder: Path, labels: str = "yes no") -> str:
    names = labels.split()
    return csv(
        folder, "train.csv", "text,label", [f"{w},{names[i % 2]}" for i, w in enumerate(WORDS)]
    )


def spec(train: str, **changes: Any) -> TaskSpec:
    defaults = {"name": "mine", "kind": "classification", "text": "text", "label": "label"}
    return TaskSpec(**{**defaults, "train": train, **changes})


def codes(findings: tuple[Finding, ...]) -> set[str]:
    return {f.code for f in findings}


def test_labels_are_found_sorted_and_noted(tmp_path: Path) -> None:
    data = load_dataset(
        spec(plain(tmp_path), test=csv(tmp_path, "test.csv", "text,label", ["x,no"] * 3))
    )
    assert data.labels == ("no", "yes")
    assert [e.label for e in data.train[:2]] == [1, 0]
    assert (data.train[0].uid, data.train[0].where) == ("train:0", "train.csv line 2")
    assert codes(data.findings) == {"labels-found"}
    assert data.source == "train.csv, test.csv" and data.licence == "not stated"


def test_listed_labels_give_the_order_and_join_spellings(tmp_path: Path) -> None:
    rows = [f"{w},{('Yes', 'no', 'YES')[i % 3]}" for i, w in enumerate(WORDS)]
    data = load_dataset(spec(csv(tmp_path, "a.csv", "text,label", rows), labels=("yes", "no")))
    assert data.labels == ("yes", "no")
    assert {e.label for e in data.train} == {0, 1}


@pytest.mark.parametrize(
    "spelling", ["ČRTA ŽIVA", "Črta živa.", unicodedata.normalize("NFD", "črta  živa")]
)
def test_spellings_of_one_label_are_named_with_the_line_that_joins_them(
    tmp_path: Path, spelling: str
) -> None:
    rows = [f"{w},{('Črta živa', 'no', 'Črta živa', spelling)[i % 4]}" for i, w in enumerate(WORDS)]
    train = csv(tmp_path, "a.csv", "text,label", rows)
    data = load_dataset(spec(train, labels=("Črta živa", "no", spelling)))
    (finding,) = [f for f in data.findings if f.code == "labels-alike"]
    assert f'"Črta živa" (10) and "{spelling}" (5)' in finding.what
    line = YAML(typ="safe").load(finding.remedy.partition(", write ")[2])
    assert line == {"labels": ["Črta živa", "no"]}
    joined = load_dataset(spec(train, labels=tuple(line["labels"])))
    assert "labels-alike" not in codes(joined.findings)
    assert [e.label for e in (*joined.train, *joined.test)].count(0) == 15


def test_rows_without_a_label_are_one_error_and_can_be_dropped(tmp_path: Path) -> None:
    rows = [f"{w},{('yes', 'no', '')[i % 3]}" for i, w in enumerate(WORDS)]
    train = csv(tmp_path, "train.csv", "text,label", rows)
    with pytest.raises(DataError) as caught:
        load_dataset(spec(train))
    assert "6 of 20 rows have no label (lines 4, 7, 10, ...)" in str(caught.value)
    assert "drop_unlabelled: true" in str(caught.value)
    data = load_dataset(spec(train, drop_unlabelled=True))
    assert len(data.train) + len(data.test) == 14
    assert "unlabelled-dropped" in codes(data.findings)
    with pytest.raises(ValueError, match="has no labels: remove drop_unlabelled"):
        TaskSpec(name="x", kind="instruction", train=train, drop_unlabelled=True)


NULLS = ("nan", "NaN", "None", "null", "N/A")


def with_nulls(folder: Path, *labels: str) -> str:
    """A file of 20 rows, of which five have null values in the place of a label."""
    cells = [NULLS[i // 4] if i % 4 == 0 else labels[i % len(labels)] for i in range(20)]
    rows = [f"{word},{cell}" for word, cell in zip(WORDS, cells, strict=True)]
    return csv(folder, "train.csv", "text,label", rows)


@pytest.mark.parametrize("listed", [None, ("N/A", "NaN", "None", "nan", "no", "null", "yes")])
def test_null_values_as_labels_are_one_warning_whose_remedy_leaves_them_out(
    tmp_path: Path, listed: tuple[str, ...] | None
) -> None:
    train = with_nulls(tmp_path, "yes", "no")
    data = load_dataset(spec(train, labels=listed))
    (finding,) = [f for f in data.findings if f.severity == "warning"]
    assert finding.code == "null-labels" and "count as labels: 5 of 20 rows." in finding.what
    assert all(f'"{null}" (1)' in finding.what for null in NULLS)
    line = finding.remedy.partition("leave them out: ")[2].replace(", with ", ", ")
    changes = YAML(typ="safe").load(f"{{{line}}}")
    followed = load_dataset(spec(train, **changes))
    assert followed.labels == ("no", "yes") and len(followed.train) + len(followed.test) == 15
    assert "null-labels" not in codes(followed.findings)


def test_null_values_that_are_not_listed_are_rows_without_a_label(tmp_path: Path) -> None:
    message = r"5 of 20 rows have no label .* drop_unlabelled: true"
    with pytest.raises(DataError, match=message):
        load_dataset(spec(with_nulls(tmp_path, "yes", "no"), labels=("yes", "no")))
    numbers = with_nulls(tmp_path, "1.5", "2.5")
    with pytest.raises(DataError, match=message):
        load_dataset(spec(numbers, kind="regression"))
    data = load_dataset(spec(numbers, kind="regression", drop_unlabelled=True))
    assert len(data.train) + len(data.test) == 15


def test_a_listed_label_that_is_called_none_is_one(tmp_path: Path) -> None:
    train = plain(tmp_path, "None yes")
    data = load_dataset(spec(train, labels=("none", "yes"), drop_unlabelled=True))
    assert len(data.train) + len(data.test) == 20 and codes(data.findings) == {"test-held-out"}


def test_without_a_test_file_a_stratified_fifth_is_kept(tmp_path: Path) -> None:
    rows = [f"{WORDS[i % 20]} {i},{i % 2},g{i // 4}" for i in range(200)]
    train = csv(tmp_path, "a.csv", "text,label,group", rows)
    data = load_dataset(spec(train, group="group"))
    assert len(data.train) + len(data.test) == 200 and len(data.test) == 40
    assert not {e.group for e in data.train} & {e.group for e in data.test}
    (held_out,) = (f for f in data.findings if f.code == "test-held-out")
    assert "40 of 200 rows, stratified by label, groups kept together" in held_out.what
    assert load_dataset(spec(train, group="group")).content_hash == data.content_hash


def test_parquet_numbers_are_read_by_each_files_own_names(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    def write(name: str, names: list[str]) -> str:
        labels = [names.index(("yes", "no")[i % 2]) for i in range(len(WORDS))]
        info = {"info": {"features": {"label": {"names": names}}}}
        table = pyarrow.table({"text": WORDS, "label": labels})
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
        pyarrow.parquet.write_table(table, tmp_path / name)
        return str(tmp_path / name)

    data = load_dataset(
        spec(write("train.parquet", ["no", "yes"]), test=write("test.parquet", ["yes", "no"]))
    )
    assert data.labels == ("no", "yes")
    assert [e.label for e in data.train] == [e.label for e in data.test]


def test_pair_and_group_and_id(tmp_path: Path) -> None:
    rows = [f"k{i},{w},{w} too,{i % 2},{w[0]}" for i, w in enumerate(WORDS)]
    train = csv(tmp_path, "a.csv", "key,first,second,label,who", rows)
    task = spec(train, kind="pair", text="first", text_pair="second", id="key", group="who")
    data = load_dataset(task)
    example = next(e for e in (*data.train, *data.test) if e.uid == "train:k2")
    assert example.segments == (("cat", "cat too"),) and example.group == "c"


@pytest.mark.parametrize(
    ("header", "rows", "changes", "message"),
    [
        ("text,label", ["a,yes", "b,maybe", "c,no"], {"labels": ("yes", "no")}, "train.csv line 3"),
        ("text,label", ["a,yes", "b,", "c,no", "d,no"], {}, "train.csv: 1 of 4 rows has no"),
        ("text,class", ["a,yes"], {}, 'train.csv: has no column "label".*columns are text, class'),
        ("text,label", ["a,yes"] * 5, {}, 'every row has the same label, "yes"'),
        ("text,label", [f"a,{i}" for i in range(9)], {}, "too many for a label"),
        ("text,label", ["a,0", "b,1"], {"labels": ("neg", "pos")}, "holds 0, 1"),
        ("text,label", ["a,", "b,"], {}, "no row of all 2 has a label"),
        ("text,label", ["a,x"], {"labels": ("x", "x")}, 'lists "x" twice'),
        ("text,label", ["a,x"], {"labels": ("x",)}, "one label only"),
        ("text,label", ["a,x", "b,y"] * 2, {"group": "who"}, 'no column "who"'),
        ("text,label", ["a,x", "b,y"] * 2, {}, "cannot be cut into 5 parts"),
    ],
)
def test_refusals(
    tmp_path: Path, header: str, rows: list[str], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(spec(csv(tmp_path, "train.csv", header, rows), **changes))


def test_twenty_faults_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    rows = [f"{w},{'yes' if i == 0 else 'x'}" for i, w in enumerate(WORDS * 2)]
    with pytest.raises(DataError) as caught:
        load_dataset(spec(csv(tmp_path, "train.csv", "text,label", rows), labels=("yes", "no")))
    lines = str(caught.value).splitlines()
    assert lines[0] == "39 faults in the data:" and len(lines) == 22
    assert lines[-1].strip() == "... and 19 more"


def test_faults_of_multiple_choice(tmp_path: Path) -> None:
    rows = [f"Q{i},a{i},b{i},{i % 2}" for i in range(9)]
    train = csv(tmp_path, "train.csv", "text,a,b,label", [*rows, "Q,a,b,2"])
    task = spec(train, kind="multiple_choice", choices=("a", "b"))
    with pytest.raises(DataError, match=r"line 11: label \"2\" is not an index from 0 to 1"):
        load_dataset(task)
    with pytest.raises(DataError, match="names 3 choices, and there are 2"):
        load_dataset(task.model_copy(update={"labels": ("x", "y", "z")}))
    with pytest.raises(DataError, match="holds no lists"):
        load_dataset(task.model_copy(update={"choices": ("a",)}))


def test_a_list_of_labels_in_a_row_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [
        {"text": w, "label": ["x", "y"] if i == 3 else "xy"[i % 2]} for i, w in enumerate(WORDS)
    ]
    path.write_text("\n".join(json.dumps(r) for r in rows))
    with pytest.raises(DataError, match=r"a\.jsonl line 4: holds a list"):
        load_dataset(spec(str(path)))


def test_limit_takes_the_first_rows(tmp_path: Path) -> None:
    test = csv(tmp_path, "test.csv", "text,label", ["x,no", "y,yes", "z,no"])
    data = load_dataset(spec(plain(tmp_path), test=test, limit={"train": 11, "test": 2}))
    assert (len(data.train), len(data.test)) == (11, 2)
    assert data.train[-1].where == "train.csv line 12"


def test_a_regression_has_finite_numbers(tmp_path: Path) -> None:
    rows = [f"{w},{i * 1.5}" for i, w in enumerate(WORDS)]
    data = load_dataset(spec(csv(tmp_path, "train.csv", "text,label", rows), kind="regression"))
    labels = {e.uid: e.label for e in (*data.train, *data.test)}
    assert labels["train:3"] == 4.5 and isinstance(labels["train:0"], float)
    assert (data.labels, data.metric) == (("label",), "r2")
    rows[3], rows[5], rows[7] = "dog,many", "fox,", "hen,inf"
    with pytest.raises(DataError) as error:
        load_dataset(spec(csv(tmp_path, "train.csv", "text,label", rows), kind="regression"))
    for message in (
        'train.csv line 5: "many" is not a finite number. Fix the row',
        "train.csv: 1 of 20 rows has no label (line 7)",
        'train.csv line 9: "inf" is not a finite number',
    ):
        assert message in str(error.value)


def test_the_rows_of_a_table_may_lack_values_but_not_columns(tmp_path: Path) -> None:
    rows = [f"{i},{'' if i == 2 else w},{'ab'[i % 2]}" for i, w in enumerate(WORDS)]
    path = csv(tmp_path, "train.csv", "size,animal,label", rows)
    task = spec(path, text=None, features=["size", "animal"])
    data = load_dataset(task)
    by_uid = {e.uid: e for e in (*data.train, *data.test)}
    assert by_uid["train:1"].segments == (("size: 1. animal: bee.", None),)
    assert by_uid["train:1"].features == (1.0, "bee")
    assert by_uid["train:2"].segments == (("size: 2.", None),)
    assert by_uid["train:2"].features == (2.0, None)
    with pytest.raises(DataError, match=r'has no column "colour"\. Its columns are size, animal'):
        load_dataset(task.model_copy(update={"features": ("size", "colour")}))


def test_features_are_part_of_the_data_and_texts_alone_are_as_before(tmp_path: Path) -> None:
    rows = [f"{i},{w},{'ab'[i % 2]}" for i, w in enumerate(WORDS)]
    path = csv(tmp_path, "train.csv", "size,animal,label", rows)
    one = load_dataset(spec(path, text=None, features=["size"], template="Size {size}"))
    rows = [f"{i}.0,{w},{'ab'[i % 2]}" for i, w in enumerate(WORDS)]
    other = load_dataset(
        spec(csv(tmp_path, "other.csv", "size,animal,label", rows), text=None, features=["size"])
    )
    assert one.content_hash != other.content_hash
    plainly = load_dataset(spec(path, text="animal"))
    assert all(e.features == () for e in plainly.train)


def test_a_groups_rows_are_drawn_together_where_a_group_has_several(tmp_path: Path) -> None:
    """Only by a column that the task names, and only in a part where groups hold several rows."""
    rows = [f"{w} {i},{'yes' if i % 2 else 'no'},g{i // 4}" for i, w in enumerate(WORDS)]
    several = [f"x {w},{'yes' if i % 2 else 'no'},h{i // 2}" for i, w in enumerate(WORDS)]
    alone = [f"x {w},{'yes' if i % 2 else 'no'},h{i}" for i, w in enumerate(WORDS)]
    train = csv(tmp_path, "train.csv", "text,label,who", rows)
    test = csv(tmp_path, "test.csv", "text,label,who", several)
    single = csv(tmp_path, "single.csv", "text,label,who", alone)

    def tested(*, at: str, **named: str) -> tuple[Dataset, Any]:
        data = load_dataset(spec(train, test=at, **named))
        predictions = ModelPredictions([0] * len(data.test), [[1.0, 0.0]] * len(data.test), None)
        return data, list(to_table(predictions, data.test, data).cluster) or None

    data, cluster = tested(at=test, group="who")
    assert cluster == [i // 2 for i in range(20)]
    assert describe_groups(data, data.train) == " in 5 groups"
    (small,) = [f for f in audit(data) if f.code == "small-test"]
    assert "20 rows in 10 groups, within which they hang together" in small.what
    data, cluster = tested(at=single, group="who")
    assert cluster is None and describe_groups(data, data.test) == ""
    (small,) = [f for f in audit(data) if f.code == "small-test"]
    assert "20 rows: " in small.what
    assert tested(at=test)[1] is None
    # Half of the rows name no group: each of those is its own.
    half = [row if i < 10 else f"{row.rpartition(',')[0]}," for i, row in enumerate(several)]
    mixed = csv(tmp_path, "mixed.csv", "text,label,who", half)
    assert len(set(tested(at=mixed, group="who")[1])) == 5 + 10


def test_the_papers_template_is_not_for_own_data(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="texts are taken as they are"):
        load_dataset(spec(plain(tmp_path), template="paper"))
