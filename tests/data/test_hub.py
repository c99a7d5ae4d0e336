"""Hub datasets: fetched once, pinned, read without network; the hub's libraries are stood in for.

Where `datasets` is installed, it writes the Parquet files itself.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import huggingface_hub
import pyarrow
import pyarrow.parquet
import pytest
from huggingface_hub.errors import OfflineModeIsEnabled
from support.tiny_study import small

from paretune.data import hub
from paretune.errors import DataError, NetworkError
from paretune.planning.expand import expand_study
from paretune.planning.prepare import prepare_study
from paretune.preparation import ProcessCache
from paretune.study import TaskSpec
from paretune.tasks import load_dataset, pin_dataset

OLD, NEW = "a" * 40, "b" * 40


class Hub:
    """Two commits of ``some/set``; ``asked`` lists every question that went over the network."""

    def __init__(self) -> None:
        self.newest = OLD
        self.requests: list[str] = []
        self.breaks_at: str | None = None
        self.converted = False
        self.splits = {"train": self.rows("row", 20), "validation": self.rows("other", 6)}

    @staticmethod
    def rows(word: str, n: int) -> list[dict[str, Any]]:
        return [{"text": f"{word} {i}", "label": i % 2} for i in range(n)]

    def commit(self, name: str, revision: str | None = None) -> SimpleNamespace:
        self.requests.append(f"commit of {name}")
        self.converted = revision == hub.CONVERTED_REVISION
        if name == "no/network":
            raise OfflineModeIsEnabled("cannot reach the hub")
        return SimpleNamespace(sha=revision if revision in (OLD, NEW) else self.newest)

    def names(self, name: str, config: str | None, *, revision: str) -> list[str]:
        self.requests.append(f"splits of {name}")
        if name == "no/such":
            raise FileNotFoundError("Dataset 'no/such' doesn't exist")
        if name == "with/script" and not self.converted:
            raise RuntimeError("Dataset scripts are no longer supported, but found script.py")
        return list(self.splits)

    def load(self, name: str, config: str | None, *, split: str, revision: str) -> Any:
        self.requests.append(f"{split} of {name} at {revision[0]}")

        def to_parquet(path: Path) -> None:
            names = {"features": {"label": {"names": ["neg", "pos"]}, "text": {}}}
            table = pyarrow.Table.from_pylist(self.splits[split])
            info = {"huggingface": json.dumps({"info": names})}
            pyarrow.parquet.write_table(table.replace_schema_metadata(info), path)
            if self.breaks_at == split:
                raise OSError("disk full")

        return SimpleNamespace(to_parquet=to_parquet)


@pytest.fixture
def the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    there = Hub()
    module = ModuleType("datasets")
    module.load_dataset = there.load  # type: ignore[attr-defined]
    module.get_dataset_split_names = there.names  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    monkeypatch.setattr(
        huggingface_hub, "HfApi", lambda: SimpleNamespace(dataset_info=there.commit)
    )
    monkeypatch.setenv("PARETUNE_HOME", str(tmp_path / "home"))
    return there


def spec(**changes: Any) -> TaskSpec:
    defaults = {"name": "t", "kind": "classification", "text": "text", "label": "label"}
    return TaskSpec(**{**defaults, "dataset": "some/set", **changes})


def fetched(**changes: Any) -> TaskSpec:
    hub.fetch_splits(spec(**changes))
    return spec(**changes)


def test_splits_are_found_and_numbers_get_their_declared_names(the_hub: Hub) -> None:
    data = load_dataset(fetched(revision=OLD))
    assert data.labels == ("neg", "pos")
    assert (len(data.train), len(data.test)) == (20, 6)
    assert data.train[1].label == 1 and data.train[1].where == "some/set train row 2"
    assert data.test[0].where == "some/set validation row 1"
    assert data.source == f"some/set at commit {OLD} (hub)"
    assert "unpinned-revision" not in {f.code for f in data.findings}


def test_nothing_is_asked_unless_told_to(the_hub: Hub) -> None:
    with pytest.raises(DataError, match=r"downloads need online=True\. Add online=True"):
        ProcessCache().dataset(pin_dataset(spec()))
    assert the_hub.requests == []
    assert len(ProcessCache().dataset(pin_dataset(spec(), offline=False)).train) == 20
    count = len(the_hub.requests)
    assert count > 0
    ProcessCache().dataset(pin_dataset(spec()))
    ProcessCache().dataset(pin_dataset(spec(), offline=False))  # all is here: nothing to ask
    assert len(the_hub.requests) == count


def test_runs_carry_the_commit_and_workers_read_it_when_the_branch_moves(
    the_hub: Hub, tmp_path: Path, tiny_model: Any
) -> None:
    study = small(tmp_path, tiny_model("bert")).model_copy(update={"tasks": (spec(),)})
    planned = expand_study(prepare_study(study, offline=False), [])
    assert {p.run.task.revision for p in planned} == {OLD}

    the_hub.newest, the_hub.splits = NEW, {"train": Hub.rows("new", 30)}
    hub.fetch_splits(spec(revision=NEW))
    count = len(the_hub.requests)
    assert len(ProcessCache().dataset(planned[0].run.task).train) == 20  # what a worker does
    assert {p.run_id for p in expand_study(prepare_study(study), [])} == {p.run_id for p in planned}
    assert len(load_dataset(spec(revision=NEW)).train) < 30  # of 30 some are held out for the test
    assert len(the_hub.requests) == count


def test_an_unpinned_revision_is_noted_with_its_commit(the_hub: Hub) -> None:
    (note,) = [f for f in load_dataset(fetched()).findings if f.code == "unpinned-revision"]
    assert f"revision: {OLD}" in str(note)


def test_a_fetch_that_breaks_leaves_no_half_file_and_goes_on(the_hub: Hub, tmp_path: Path) -> None:
    the_hub.breaks_at = "validation"
    with pytest.raises(NetworkError, match="disk full"):
        hub.fetch_splits(spec())
    left = sorted(p.name for p in (tmp_path / "home").rglob("*") if p.is_file())
    assert left == ["train.parquet"]
    with pytest.raises(DataError, match="has not been downloaded"):
        load_dataset(spec())
    the_hub.breaks_at = None
    assert len(load_dataset(fetched()).test) == 6
    assert the_hub.requests.count(f"train of some/set at {OLD[0]}") == 1


def test_another_split_is_fetched_at_the_commit_that_is_here(the_hub: Hub) -> None:
    fetched()
    the_hub.newest = NEW
    the_hub.splits["train2"] = Hub.rows("second", 12)
    with pytest.raises(DataError, match='has no split "train2"'):
        load_dataset(spec(splits={"train": "train2"}))  # what is here knows of no such split
    by_time = fetched(split_by="label")  # its newest rows are the test, not another split
    assert set(hub.load_splits(by_time).parts()) == {"train"}
    data = load_dataset(fetched(splits={"train": "validation", "test": "train"}))
    assert (len(data.train), len(data.test)) == (6, 20)
    assert not any(request.endswith("at b") for request in the_hub.requests)


def test_no_network_no_such_dataset_and_no_such_split(the_hub: Hub) -> None:
    with pytest.raises(NetworkError, match="could not be fetched"):
        hub.fetch_splits(spec(dataset="no/network"))
    with pytest.raises(DataError, match="cannot be loaded"):
        hub.fetch_splits(spec(dataset="no/such"))
    with pytest.raises(DataError, match="It has train, validation"):
        hub.fetch_splits(spec(splits={"test": "tests"}))


def test_a_dataset_with_a_script_is_read_where_the_hub_converted_it(the_hub: Hub) -> None:
    with pytest.raises(DataError, match=r"give the task revision: refs/convert/parquet"):
        hub.fetch_splits(spec(dataset="with/script"))
    data = load_dataset(fetched(dataset="with/script", revision=hub.CONVERTED_REVISION))
    assert len(data.train) == 20 and OLD in data.source
    assert (
        hub.pin_revision(spec(dataset="with/script", revision=hub.CONVERTED_REVISION)).revision
        == OLD
    )
    assert load_dataset(spec(dataset="with/script", revision=OLD)).train == data.train


def test_hidden_test_labels_are_one_fault(the_hub: Hub) -> None:
    the_hub.splits["test"] = [{"text": f"hidden {i}", "label": -1} for i in range(30)]
    with pytest.raises(DataError, match="no row of all 30 has a label"):
        load_dataset(fetched())


def test_an_empty_split_is_refused(the_hub: Hub) -> None:
    the_hub.splits["validation"] = []
    with pytest.raises(DataError, match=r"some/set validation: holds no rows"):
        load_dataset(fetched())


def test_a_missing_extra_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PARETUNE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install \"datasets>=4\""):
        hub.fetch_splits(spec())


def test_the_real_library_writes_what_we_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra hub")
    monkeypatch.setenv("PARETUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(
        huggingface_hub,
        "HfApi",
        lambda: SimpleNamespace(dataset_info=lambda name, revision: SimpleNamespace(sha=OLD)),
    )
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["neg", "pos"])
    )
    there = {
        name: datasets.Dataset.from_list(Hub.rows(name, n), features=features)
        for name, n in (("train", 20), ("test", 6))
    }
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda *a, **k: list(there))
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, split, **k: there[split])
    data = load_dataset(fetched())
    assert (len(data.train), len(data.test), data.labels) == (20, 6, ("neg", "pos"))
