"""Hub datasets, by a stand-in for the library `datasets`; by the real one where it is installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

from paretune.errors import DataError, NetworkError
from paretune.study import TaskSpec
from paretune.tasks import load

SPLITS = {
    "train": [{"text": f"row {i}", "label": i % 2} for i in range(20)],
    "validation": [{"text": f"other {i}", "label": i % 2} for i in range(6)],
}


class Split(list[dict[str, Any]]):
    """A split of the stand-in: rows with declared features."""

    features: ClassVar = {"label": SimpleNamespace(names=["neg", "pos"]), "text": SimpleNamespace()}


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    module = ModuleType("datasets")

    def load_dataset(name: str, config: str | None, **options: Any) -> Split:
        calls.append({"name": name, "config": config, **options})
        if name == "no/where":
            raise ConnectionError("offline")
        if name == "no/such":
            raise FileNotFoundError("Dataset 'no/such' doesn't exist")
        return Split(SPLITS[options["split"]])

    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    module.get_dataset_split_names = lambda *a, **k: list(SPLITS)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return calls


def spec(**changes: Any) -> TaskSpec:
    given = {"name": "t", "kind": "classification", "text": "text", "label": "label"}
    return TaskSpec(**{**given, "dataset": "some/set", **changes})


def test_splits_are_found_and_numbers_get_their_declared_names(
    library: list[dict[str, Any]],
) -> None:
    data = load(spec(revision="abc"))
    assert data.labels == ("neg", "pos")
    assert (len(data.train), len(data.test)) == (20, 6)
    assert data.train[1].label == 1 and data.train[1].where == "some/set train row 2"
    assert data.test[0].where == "some/set validation row 1"
    assert all(call["revision"] == "abc" for call in library)
    assert not any("trust_remote_code" in call for call in library)
    assert "unpinned-revision" not in {f.code for f in data.findings}


def test_an_unpinned_revision_is_noted(library: list[dict[str, Any]]) -> None:
    assert "unpinned-revision" in {f.code for f in load(spec()).findings}


def test_an_order_other_than_the_declared_one_is_a_warning(library: list[dict[str, Any]]) -> None:
    data = load(spec(labels=("pos", "neg")))
    assert data.train[1].label == 0
    assert [f.severity for f in data.findings if f.code == "label-order"] == ["warning"]


def test_no_network_and_no_such_dataset(library: list[dict[str, Any]]) -> None:
    with pytest.raises(NetworkError, match="could not be reached"):
        load(spec(dataset="no/where", splits={"train": "train", "test": "validation"}))
    with pytest.raises(DataError, match="cannot be loaded"):
        load(spec(dataset="no/such", splits={"train": "train", "test": "validation"}))


def test_hidden_test_labels_are_one_fault(
    library: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = [{"text": f"hidden {i}", "label": -1} for i in range(30)]
    monkeypatch.setitem(SPLITS, "test", hidden)
    with pytest.raises(DataError, match="no row of all 30 has a label"):
        load(spec())


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install \"paretune\[hub\]\""):
        load(spec())


def test_the_real_library_reads_a_local_folder(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="needs the extra hub")
    for name, n in (("train", 20), ("test", 6)):
        lines = [json.dumps({"text": f"{name} {i}", "label": "ab"[i % 2]}) for i in range(n)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    data = load(spec(dataset=str(tmp_path)))
    assert (len(data.train), len(data.test), data.labels) == (20, 6, ("a", "b"))
