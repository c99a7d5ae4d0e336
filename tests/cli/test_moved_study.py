"""A study that is moved or copied with its data, its model and its store keeps all its results."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from support.tiny_study import command, digests, finish, two_files

from paretune.execution.study_runs import add_missing_runs
from paretune.planning.prepare import prepare_study
from paretune.store import Store
from paretune.study import Study
from paretune.verbs.recommend import recommend
from paretune.verbs.report import load_results

RAW: dict[str, Any] = {
    "study": "words",
    "tasks": [
        {
            "name": "words",
            "kind": "classification",
            "train": "data/train.csv",
            "test": "./data/test.csv",
            "text": "text",
            "label": "label",
        }
    ],
    "models": [{"name": "./models/tiny"}],
    "methods": [{"name": "lora", "rank": 2}],
    "protocol": {"trials": 1, "folds": 1, "seeds": [1, 2]},
    "training": {"max_steps": 2, "eval_every": 2, "max_length": 32, "precision": "fp32"},
}


def written(folder: Path, model: Path) -> Path:
    """A folder with a study file, its data and its model; the file's path."""
    two_files(folder / "data")
    shutil.copytree(model, folder / "models" / "tiny")
    with (folder / "words.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(RAW, file)
    return folder / "words.yaml"


@pytest.fixture(scope="module")
def moved(tmp_path_factory: Any, tiny_model: Any) -> Path:
    """A folder with a study that ran to its end but for costs, elsewhere: nothing is there now."""
    folder = tmp_path_factory.mktemp("home") / "first"
    finish(Study.load(written(folder, tiny_model("bert"))), folder / "store", costs=0).close()
    return Path(shutil.move(folder, folder.parent / "second"))


def kept(folder: Path) -> dict[str, str]:
    with Store.open(folder / "store") as store:
        return digests(store, Study.load(folder / "words.yaml").study_hash)


def attempts(folder: Path) -> dict[str, tuple[str, int]]:
    """State and number of claims of every run in the store, whoever asked for it."""
    db = sqlite3.connect(folder / "store" / "study.db")
    claims = {row[0]: row[1:] for row in db.execute("SELECT run_id, state, attempt FROM runs")}
    db.close()
    return claims


@pytest.mark.wide
def test_a_moved_study_reports_recommends_exports_and_goes_on_and_trains_nothing_again(
    capsys: Any, tmp_path: Path, moved: Path
) -> None:
    there = tmp_path / "elsewhere"
    shutil.copytree(moved, there)
    study, store = there / "words.yaml", there / "store"
    assert Study.load(study).study_hash == Study.load(moved / "words.yaml").study_hash
    before, tried = kept(there), attempts(there)
    assert before == kept(moved) and len(before) == 6

    records = load_results(study, store).records
    assert {r.run.task.train for r in records} == {str(there / "data" / "train.csv")}
    assert recommend(study, store=store)
    for verb in ("report", "recommend"):
        code, out, err = command(capsys, verb, study, "--store", store)
        assert code == 0, out + err
    code, out, err = command(
        capsys, "export", study, "--store", store, "--method", "lora", "--output", tmp_path / "out"
    )
    assert code == 0, out + err

    moved_study = Study.load(study)
    with Store.open(store) as opened:
        prepared = prepare_study(moved_study).in_store(opened, "cpu")
        predictor = prepared.predictor
        assert add_missing_runs(prepared, opened, predictor) == 0
    finish(moved_study, store, costs=1).close()
    after = attempts(there)
    assert {run: after[run] for run in tried if tried[run][0] == "done"} == {
        run: attempt for run, attempt in tried.items() if attempt[0] == "done"
    }
    assert sum(state == "done" for state, _ in after.values()) == 7
    assert "failed" not in {state for state, _ in after.values()}


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("train.csv", "train.csv"),
        ("./data//train.csv", "data/train.csv"),
        ("../shared/train.csv", "../shared/train.csv"),
        ("data.zip::train.csv", "data.zip::train.csv"),
        ("/data/train.csv", "/data/train.csv"),
    ],
)
def test_a_study_keeps_paths_as_they_are_written_and_opens_them_beside_its_file(
    tmp_path: Path, written: str, kept: str
) -> None:
    raw = {**RAW, "tasks": [{**RAW["tasks"][0], "train": written}]}
    hashes = set()
    for base in (tmp_path / "a", tmp_path / "b" / "c"):
        study = Study.parse(raw, base=base)
        assert study.canonical_form()["tasks"][0]["train"] == kept
        assert study.canonical_form()["models"][0]["name"] == "./models/tiny"
        assert study.tasks[0].train == os.path.normpath(base / written)
        assert study.models[0].name == str(base / "models" / "tiny")
        changed = study.model_copy(update={"study": "other"})
        assert changed.canonical_form()["tasks"][0]["train"] == kept
        hashes.add(study.study_hash)
    assert len(hashes) == 1


def test_no_path_of_this_machine_is_in_a_runs_identity_or_among_its_settings(moved: Path) -> None:
    study = Study.load(moved / "words.yaml")
    for record in load_results(study, moved / "store").records:
        assert str(moved) not in json.dumps(record.run.canonical_form())
    assert str(moved) not in json.dumps(study.canonical_form())
