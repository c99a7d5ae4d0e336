"""``split_by``: the newest rows are the test part; what is no date is refused with its row."""

from __future__ import annotations

import csv
import random
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from paretune.data.example import Dataset
from paretune.data.split import choose_outer_design
from paretune.errors import DataError
from paretune.study import Protocol, TaskSpec
from paretune.study.run import omit_defaults
from paretune.tasks import load_dataset

DAYS = [date(2025, 1, 1) + timedelta(days=i) for i in range(50)]


def write_csv(folder: Path, dates: list[Any]) -> Path:
    """A row for each date, in an order of no meaning."""
    rows = [(f"Text of row {i}.", "yes" if i % 2 else "no", day) for i, day in enumerate(dates)]
    random.Random(0).shuffle(rows)  # noqa: S311 (an order of rows, no secret)
    path = folder / "notes.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label", "sent"), *rows])
    return path


def make_spec(path: Path, **keys: Any) -> TaskSpec:
    columns = {"kind": "classification", "text": "text", "label": "label"}
    return TaskSpec(**{"name": "notes", "train": str(path), "split_by": "sent", **columns, **keys})


def sorted_numbers(examples: Any) -> list[int]:
    return sorted(int(e.segments[0][0].removeprefix("Text of row ")[:-1]) for e in examples)


def test_the_newest_fifth_is_the_test_part(tmp_path: Path) -> None:
    dataset = load_dataset(make_spec(write_csv(tmp_path, list(DAYS))))
    assert sorted_numbers(dataset.test) == list(range(40, 50))
    assert sorted_numbers(dataset.train) == list(range(40))
    (note,) = [f for f in dataset.findings if f.code == "test-held-out"]
    assert "10 of 50 rows, the newest by sent (from 2025-02-10 on)." in note.what


def test_rows_of_one_moment_stay_together(tmp_path: Path) -> None:
    days = [DAYS[0]] * 20 + [DAYS[1]] * 15 + [DAYS[2]] * 15
    dataset = load_dataset(make_spec(write_csv(tmp_path, days)))
    assert sorted_numbers(dataset.test) == list(range(35, 50))
    most_new = [DAYS[0]] * 10 + [DAYS[1]] * 40
    assert len(load_dataset(make_spec(write_csv(tmp_path, most_new))).test) == 40
    with pytest.raises(DataError, match="all 50 rows have one date"):
        load_dataset(make_spec(write_csv(tmp_path, [DAYS[0]] * 50)))


def test_times_and_moments_of_parquet_are_dates(tmp_path: Path) -> None:
    times = [f"{day}T{i % 24:02d}:00:00" + "Z" * (i % 2) for i, day in enumerate(DAYS)]
    texts = load_dataset(make_spec(write_csv(tmp_path, times)))
    moments = [datetime(day.year, day.month, day.day) for day in DAYS]
    columns = {"text": [f"Text of row {i}." for i in range(50)], "label": ["a", "b"] * 25}
    path = tmp_path / "notes.parquet"
    pq.write_table(pa.table({**columns, "sent": moments}), path)
    table = load_dataset(make_spec(path))
    for dataset in (texts, table):
        assert sorted_numbers(dataset.test) == list(range(40, 50))


@pytest.mark.parametrize(
    ("dates", "message"),
    [
        ([*DAYS[:49], ""], "has no date in"),
        ([*DAYS[:49], "soon"], 'holds "soon", which is no date, in'),
        ([f"{day:%d.%m.%Y}" for day in DAYS], "50 of 50 rows are like this one"),
    ],
    ids=["missing", "one", "all"],
)
def test_rows_without_a_date_are_named(tmp_path: Path, dates: list[Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        load_dataset(make_spec(write_csv(tmp_path, dates)))
    assert message in str(caught.value) and "notes.csv line " in str(caught.value)
    assert "2026-01-31" in str(caught.value)


def test_what_contradicts_it_is_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path, list(DAYS))
    with pytest.raises(ValueError, match="split_by takes the test part from train"):
        make_spec(path, test=str(path))
    with pytest.raises(DataError, match="a column of dates, which parts groups"):
        load_dataset(make_spec(path, group="label"))
    with pytest.raises(ValueError, match="split_by belong to a task with files of its own"):
        TaskSpec(name="boolq", split_by="sent")


def choose_folds(dataset: Dataset, spec: TaskSpec, outer: Any) -> tuple[int, str]:
    design = choose_outer_design(Protocol(outer=outer), spec, dataset)
    return design.folds, design.reason


def test_a_cut_by_time_is_not_cross_validated(tmp_path: Path) -> None:
    spec = make_spec(write_csv(tmp_path, list(DAYS)))
    dataset = load_dataset(spec)
    reason = "the column sent says which rows it has"
    assert choose_folds(dataset, spec, "auto") == (0, reason)
    assert choose_folds(dataset, spec, "split")[0] == 0
    with pytest.raises(DataError, match="would train on rows that are newer"):
        choose_folds(dataset, spec, 5)


def test_a_task_without_it_has_the_identity_it_had(tmp_path: Path) -> None:
    spec = make_spec(tmp_path / "notes.csv", split_by=None).model_dump(mode="json")
    assert "split_by" not in omit_defaults({"task": spec})["task"]
