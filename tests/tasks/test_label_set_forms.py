"""Several labels in a row: every form is read alike, and what is wrong is said by its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paretune.data.audit import audit
from paretune.data.split import assign_folds
from paretune.errors import DataError, ParetuneError
from paretune.metrics.classification import multi_hot
from paretune.objectives.example import Example
from paretune.study import TaskSpec
from paretune.tasks import load_dataset

SETS = [["news"], ["sport", "news"], [], ["travel"], ["news", "travel"], ["sport"]] * 4
LABELS = ("news", "sport", "travel")


def write(folder: Path, cells: list[Any], part: str = "train", form: str = "lists") -> str:
    """A file of the cells in a form; its name."""
    path = folder / f"{part}.{'jsonl' if form == 'lists' else 'csv'}"
    if form == "lists":
        lines = [json.dumps({"text": f"{part} {i}", "topics": c}) for i, c in enumerate(cells)]
    elif form == "columns":
        hot = [",".join(str(int(name in cell)) for name in LABELS) for cell in cells]
        lines = [f"text,{','.join(LABELS)}", *(f"{part} {i},{c}" for i, c in enumerate(hot))]
    else:
        texts = [form.join(cell) or "[]" for cell in cells]
        lines = ["text,topics", *(f'{part} {i},"{text}"' for i, text in enumerate(texts))]
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def load(train: str, **task: Any) -> Any:
    columns = {} if "labels" in task and "label" not in task else {"label": "topics"}
    spec = {"name": "x", "kind": "multilabel", "text": "text", "train": train, **columns, **task}
    return load_dataset(TaskSpec.model_validate(spec))


@pytest.mark.parametrize("form", ["lists", "columns", "|", "; ", ", "])
def test_every_form_gives_the_same_answers(tmp_path: Path, form: str) -> None:
    train, test = (write(tmp_path, SETS, part, form) for part in ("train", "test"))
    named = {"labels": LABELS} if form == "columns" else {}
    dataset = load(train, test=test, **named)
    assert dataset.labels == LABELS
    assert [e.label for e in dataset.train[:5]] == ["100", "110", "000", "001", "101"]
    assert {f.severity for f in audit(dataset)} <= {"note"}


FAULTS: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "an unknown label": (
        [["news"], ["art"]],
        {"label": "topics", "labels": LABELS},
        'line 2: label "art" is not',
    ),
    "a label twice": ([[0, 0, 1], [1, 0, 0]], {}, 'line 1: names the label "0" twice'),
    "objects": ([{"a": 1}, ["news"], ["sport"]], {}, "line 1: holds objects"),
    "no cell at all": ([None, None], {}, r'no row of all 2 has a label in "topics"'),
    "a broken list": (
        [["news"], "['news', 'sport'", ["sport"], "'sport']"],
        {},
        r"2 faults .*\n.* line 2: \['news', 'sport' is not a whole list.*\n.* line 4: 'sport'\] is",
    ),
    "lists without quotes": (
        ["[news, sport]", "[sport]"] * 2,
        {},
        r"line 1: \[news, sport\] is not",
    ),
    "nothing but empty lists": ([[], [], []], {}, 'every list in "topics" is empty'),
    "one label": ([["news"], [], ["news"]], {}, 'every row has the same label, "news"'),
    "no such column": ([["news"]], {"label": "tags"}, 'no column "tags"'),
    "no name of labels": (SETS, {"label": None}, "names no labels"),
    "a column of numbers": ([2, 3], {"labels": ("topics", "text")}, '"2" in "topics" is neither'),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_told_with_its_line(tmp_path: Path, case: str) -> None:
    cells, task, message = FAULTS[case]
    with pytest.raises(ParetuneError, match=message):
        load(write(tmp_path, cells), **task)


def test_an_empty_cell_is_an_empty_set_which_is_said_once(tmp_path: Path) -> None:
    train, test = write(tmp_path, [*SETS, None, ""]), write(tmp_path, [*SETS, None], "test")
    dataset = load(train, test=test)
    assert [dataset.train[-1].label, dataset.test[-1].label] == ["000", "000"]
    (note,) = [f for f in dataset.findings if f.code == "empty-label-set"]
    assert note.severity == "note" and note.what.startswith("3 of 51 rows have no label")
    assert note.places == ("train.jsonl line 25", "train.jsonl line 26", "test.jsonl line 25")
    unlabelled = write(tmp_path, [None, ""], "test")
    with pytest.raises(DataError, match="no row of all 2 has a label"):
        load(train, test=unlabelled)


def test_rows_without_labels_are_left_out_where_the_study_says_so(tmp_path: Path) -> None:
    train = write(tmp_path, [*SETS, None])
    assert len(load(train, test=train, drop_unlabelled=True).train) == len(SETS)


@pytest.mark.parametrize(
    ("train", "test", "code", "severity"),
    [
        (SETS, [*SETS, ["art"]], "missing-class", "warning"),
        (SETS, [["art"]] * 20, "missing-class", "error"),
        ([["news"]] * 20, SETS, "one-class", "error"),
    ],
)
def test_a_label_in_test_alone_and_one_that_all_rows_have(
    tmp_path: Path, train: Any, test: Any, code: str, severity: str
) -> None:
    dataset = load(write(tmp_path, train), test=write(tmp_path, test, "test"))
    findings = {finding.code: finding for finding in audit(dataset)}
    assert findings[code].severity == severity and findings[code].remedy
    assert ("line" in findings[code].where) == (code == "missing-class")


@pytest.mark.parametrize("grouped", [False, True])
def test_folds_hold_equal_shares_of_every_label(grouped: bool) -> None:
    generator = np.random.default_rng(1)
    table = generator.random((400, 6)) < [0.5, 0.3, 0.2, 0.1, 0.05, 0.025]
    examples = [
        Example(
            str(i), ((f"text {i}", None),), "".join("01"[int(h)] for h in row), "here",
            group=f"{i // 2}" if grouped else None,
        )
        for i, row in enumerate(table)
    ]  # fmt: skip
    folds = np.array(assign_folds(examples, 3))
    if grouped:
        assert (folds[::2] == folds[1::2]).all()
    counts = np.stack([multi_hot(e.label for e in examples)[folds == f].sum(0) for f in range(5)])
    assert np.ptp(np.bincount(folds)) <= (6 if grouped else 4)
    assert np.ptp(counts, axis=0).max() <= (4 if grouped else 2)
    assert assign_folds(examples, 3) == [*folds] != assign_folds(examples, 4)
