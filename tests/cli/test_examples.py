"""Every study file that we ship or show is executed, on a tiny model and a few made-up rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from support.chosen import chosen
from support.examples import EXAMPLES, small_example
from support.tiny_study import as_file, command, finish, superglue

from paretune.planning.prepare import prepare_study
from paretune.search.expand import expand_study
from paretune.study import Study
from paretune.testing.translator_folders import sentences, tiny_marian
from paretune.verbs.report import report
from paretune.verbs.study_input import shipped_studies
from paretune_slovene.paper import preset


def test_the_examples_are_the_shipped_files() -> None:
    files = {path.stem: path for path in EXAMPLES.glob("*.yaml")}
    own = {"own-data", "paper-fair", "slobench", "slovene-cb", "table"}
    own |= {"slovene-translation", "manual-translation"}
    own |= {"metamath", "slovene-llm", "sms"}  # of decoders
    assert set(files) == {*shipped_studies(), *own}
    for name, path in shipped_studies().items():
        assert files[name].resolve() == path.resolve()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper's preset with two steps a run."""
    training = {
        **preset.read_settings()["training"],
        "max_steps": 2,
        "eval_every": 2,
        "max_length": 64,
    }
    fast = {**preset.read_settings(), "training": training}
    monkeypatch.setattr(preset, "read_settings", lambda: fast)


def rsdo4(folder: Path) -> str:
    """Pairs in RSDO4's columns."""
    folder.mkdir()
    lines = [f"{sl}\t{en}" for sl, en in sentences(40, 3)]
    (folder / "rsdo4.tsv").write_text("\n".join(["sl_seq\ten_seq", *lines]), encoding="utf-8")
    return str(folder / "rsdo4.tsv")


@pytest.mark.wide
def test_the_translation_runs_fair_and_by_the_papers_settings(
    tmp_path: Path, quick: None, capsys: Any
) -> None:
    path = EXAMPLES / "slovene-translation.yaml"
    raw: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    Study.parse(raw, base=path.parent)
    raw["tasks"][0]["source"] = rsdo4(tmp_path / "data")
    raw["models"] = [{"name": str(tiny_marian(tmp_path / "marian")), "label": "tiny"}]
    raw["generation"] |= {"max_new_tokens": 8, "num_beams": 2}
    fair = raw | {
        "protocol": {"seeds": [1], "trials": 1, "folds": 1, "cost_seconds": 1},
        "training": {"max_steps": 2, "eval_every": 2, "max_length": 32, "precision": "fp32"},
    }
    by_paper = raw | {
        "study": "as-in-the-paper",
        "methods": ["full", "prompt", "lora", "loha"],
        "protocol": {"preset": "paper"},
    }
    by_paper.pop("training")
    for variant in (fair, by_paper):
        study = Study.parse(variant, base=path.parent)
        with finish(study, tmp_path / study.study, costs=1) as store:
            failed = [
                s.message for s in store.load_statuses(study.study_hash) if s.state == "failed"
            ]
            assert failed == []
        (task,) = report(study, store=tmp_path / study.study).tasks
        methods = {m.key for m in study.methods} | {"untuned", "copy_source"}
        assert {row.method for row in task.cells} == methods
        assert all(row.score for row in task.cells)


@pytest.mark.slow
def test_the_sample_translation_runs(tmp_path: Path, capsys: Any) -> None:
    study = small_example("manual-translation", tmp_path, tiny_marian(tmp_path / "marian"))
    finish(study, tmp_path / "store", costs=1).close()
    (task,) = report(study, store=tmp_path / "store").tasks
    assert {row.method for row in task.cells} == {"full", "lora", "untuned", "copy_source"}
    assert all(row.score for row in task.cells)


EVERY = ["sample", "own-data", "table", "slovene-superglue", "slobench", "paper", "paper-fair"]
EVERY += ["complaints", "spam", "slovene-cb"]


@pytest.mark.parametrize(("name",), chosen([(name,) for name in EVERY], 10))
def test_every_example_runs(
    name: str, tmp_path: Path, tiny_model: Any, quick: None, capsys: Any
) -> None:
    study = small_example(name, tmp_path / "data", tiny_model("bert"))
    with finish(study, tmp_path / "store", costs=1) as store:
        states = store.load_statuses(study.study_hash)
        assert [s.message for s in states if s.state == "failed"] == []
        waiting = [s for s in states if not s.ended]
        assert {s.stage for s in waiting} <= {"cost"}
        cells = {s.run.cell for s in states if s.stage == "final"}
    tasks = {task.key for task in study.tasks}
    methods = {m.key for m in study.methods} | {"majority", "tfidf", "head_only"}
    methods |= {"gradient_boosting"} if name == "table" else set()
    assert {cell[0] for cell in cells} == tasks and {cell[2] for cell in cells} == methods
    study_report = report(study, store=tmp_path / "store")
    assert [task.key for task in study_report.tasks] == [task.key for task in study.tasks]
    assert all(row.score for task in study_report.tasks for row in task.cells)
    if name == "slobench":
        file, out = as_file(study, tmp_path / "slobench.yaml"), tmp_path / "out"
        arguments = ("export", "slobench", file, "--store", tmp_path / "store", "--output", out)
        assert command(capsys, *arguments)[0] == 0
        submission = ("slobench", "check", out / "superglue.zip", "--release", tmp_path / "data")
        assert "Ready to be handed in." in command(capsys, *submission)[1]


def with_data_here(path: Path, folder: Path, model: Path) -> Study:
    """The file's tasks, methods and protocol, on made-up rows and one tiny decoder."""
    raw: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    Study.parse(raw, base=path.parent)  # as it stands, it is a study
    raw["models"] = [{"name": str(model), "label": "tiny"}]
    for task in raw["tasks"]:
        if path.stem == "slovene-llm":
            task["source"] = str(superglue(folder / task["name"], "zips"))
        if path.stem == "metamath":
            for part in ("train", "test"):
                rows = [
                    {"prompt": f"Question: {i}?\nAnswer:", "completion": f" It is {i}."}
                    for i in range(20)
                ]
                file = folder / f"{part}.jsonl"
                file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
                task[part] = str(file)
    raw["training"] |= {"precision": "fp32"}
    return Study.parse(raw, base=path.parent)


@pytest.mark.parametrize(
    ("name", "readouts"),
    [
        ("slovene-llm", {"head", "label_words"}),
        ("metamath", {"text"}),
        ("sms", {"label_words"}),
    ],
)
def test_runs_of_a_study_of_decoders_are_planned(
    name: str, readouts: set[str], tmp_path: Path, tiny_model: Any
) -> None:
    study = with_data_here(EXAMPLES / f"{name}.yaml", tmp_path, tiny_model("llama"))
    planned = expand_study(prepare_study(study), [])
    on_model = [one.run for one in planned if one.run.model.name != "-"]
    assert {run.method.key for run in on_model} >= {m.key for m in study.methods}
    assert {run.readout for run in on_model if run.method.name != "head_only"} == readouts
    assert any(run.method.name == "untuned" for run in on_model)
