"""A table in memory in the place of a data file, as the libraries that hold tables hand it on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pytest

import paretune
from paretune.data.rows import read_declared_labels, read_rows
from paretune.errors import DataError
from paretune.study import Study
from paretune.study.data_frame import save_data_frame
from paretune.tasks import load_dataset
from paretune.verbs import tune as tune_module

ROWS = [{"text": f"Text number {i}", "label": i % 2} for i in range(24)]
TABLE = pyarrow.Table.from_pylist(ROWS)


class Frame:
    """What pandas and polars have: a stream of Arrow's columns; pandas names an index."""

    def __init__(self, table: Any) -> None:
        self.table = table.append_column("__index_level_0__", [list(range(table.num_rows))])

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.table.__arrow_c_stream__(requested_schema)


class Split:
    """What `datasets` has: rows in a format, with declared label names in the metadata."""

    def with_format(self, name: str) -> Any:
        assert name == "arrow"
        names = b'{"info": {"features": {"label": {"names": ["bad", "good"]}}}}'
        return TABLE.replace_schema_metadata({"huggingface": names})


def values(frame: Any) -> dict[str, Any]:
    task = {"name": "t", "kind": "classification", "train": frame, "text": "text", "label": "label"}
    return {"study": "s", "tasks": [task], "models": ["some/model"], "methods": ["full"]}


def test_rows_are_kept_in_a_file_that_is_named_by_them(tmp_path: Path) -> None:
    path = save_data_frame(Frame(TABLE), tmp_path)
    assert [row.values for row in read_rows(path)] == ROWS
    assert save_data_frame(TABLE.combine_chunks(), tmp_path) == path
    assert save_data_frame(Frame(TABLE.slice(1)), tmp_path) != path
    assert len(list(tmp_path.iterdir())) == 2


def test_label_names_that_a_dataset_declares_are_kept(tmp_path: Path) -> None:
    path = save_data_frame(TABLE, tmp_path)
    declared = save_data_frame(Split(), tmp_path)
    assert declared != path and read_declared_labels(declared, "label") == ("bad", "good")


def test_a_study_of_a_table_is_that_of_its_file(tmp_path: Path) -> None:
    study = Study.parse(values(Frame(TABLE)), base=tmp_path)
    (path,) = tmp_path.glob("data-*.parquet")
    assert study.study_hash == Study.parse(values(path.name), base=tmp_path).study_hash
    assert len(load_dataset(study.tasks[0]).train) == 19


def test_tune_and_run_take_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sentences: list[str] = []

    def stop(study: Study, **options: Any) -> None:
        raise InterruptedError(str(study.tasks[0].train))

    monkeypatch.setattr(tune_module, "run", stop)
    with pytest.raises(InterruptedError) as stopped:
        paretune.tune(Frame(TABLE), tell=sentences.append)
    (path,) = tmp_path.glob("data-*.parquet")
    assert str(stopped.value) == str(path) and sentences[0] == f"The data is kept in {path.name}."
    with pytest.raises(DataError, match='has no column "text"'):
        paretune.run(values(Frame(TABLE.rename_columns(["words", "label"]))))


@pytest.mark.parametrize("data", [ROWS, {"train": Frame(TABLE)}, None, Frame])
def test_what_is_no_table_is_named(data: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"a {type(data).__name__}, neither a file nor a table"):
        paretune.tune(data)


@pytest.mark.parametrize("library", ["pandas", "polars", "datasets"])
def test_tables_of_these_libraries(library: str, tmp_path: Path) -> None:
    module = pytest.importorskip(library)
    if library == "datasets":
        frame = module.Dataset.from_list([*ROWS, ROWS[0]]).select(range(len(ROWS)))
    else:
        frame = module.DataFrame(ROWS)
    path = save_data_frame(frame, tmp_path)
    assert path == save_data_frame(TABLE, tmp_path)
    assert [row.values for row in read_rows(path)] == ROWS
