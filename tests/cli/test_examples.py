"""Every study file that we ship or show is executed, on a tiny model and a few made-up rows."""

from __future__ import annotations

import json
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
from ruamel.yaml import YAML
from support.chosen import chosen
from support.slobench import make_paper_quick, release
from support.tiny_study import as_file, command, finish, superglue

from paretune.planning.expand import expand_study
from paretune.planning.prepare import prepare_study
from paretune.study import Study
from paretune.study.study_file import as_entries
from paretune.testing.translator_folders import sentences, tiny_marian
from paretune.verbs.report import report
from paretune.verbs.study_input import shipped_studies

EXAMPLES = Path(__file__).parents[2] / "examples"
SUPERGLUE = ("boolq", "cb", "copa", "multirc", "rte", "wsc")
FOLDERS = ("paper", "paper-question-english", "beyond-lora")
PARTS = ("train", "dev", "test")
TRANSLATIONS = ("manual-translation", "slovene-translation", "software-help")
TRAINED = ("sample", "own-data", "table", "slovene-superglue", "slobench", "paper", "paper-fair")
TRAINED += ("complaints", "spam", "paper-question", "paper-question-english", "beyond-lora")
TRAINED += ("labelled-rows",)
TRAINED += TRANSLATIONS


def read_example(name: str) -> dict[str, Any]:
    """The file's settings, which as they stand are a study."""
    text = (EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8")
    raw: dict[str, Any] = YAML(typ="safe", pure=True).load(text)
    Study.parse(raw, base=EXAMPLES)
    return raw


def write_parts(task: dict[str, Any], folder: Path) -> None:
    """Made-up rows in place of the task's files."""
    for part in {"train", "test"} & {*task}:
        rows = [("sl", "en"), *sentences(40, len(part))]
        if task["kind"] == "classification":
            labels = ("ab"[len(en) % 2] for _, en in rows[1:])
            texts = (en for _, en in rows[1:])
            rows = [(task["label"], "text"), *zip(labels, texts, strict=True)]
        task[part] = str(folder / f"{task['name']}-{part}.tsv")
        Path(task[part]).write_text("\n".join(map("\t".join, rows)), encoding="utf-8")


def small_example(name: str, folder: Path, model: Path) -> Study:
    """The file's own tasks, methods and protocol; one tiny model, made-up rows, few steps."""
    raw = read_example(name)
    folder.mkdir()
    raw["models"] = [{"name": str(model), "label": "tiny"}]
    if name == "table":
        run_path(str(EXAMPLES / "table.py"))["main"](folder)
    if name == "slobench":
        release(folder)
    if name in TRANSLATIONS:
        raw["generation"] = {"max_new_tokens": 8}
    for task in raw["tasks"]:
        if name == "slobench":
            task["source"] = str(folder)
        elif task["name"] in SUPERGLUE:
            layout = "folders" if name in FOLDERS else "zips"
            task["source"] = str(superglue(folder / task["name"], layout))
        elif task["name"] in ("sib200", "software-help") or name == "labelled-rows":
            write_parts(task, folder)
        elif name == "table":
            task |= {part: str(folder / task[part]) for part in ("train", "test")}
        elif name == "slovene-translation":
            lines = ["sl_seq\ten_seq", *("\t".join(pair) for pair in sentences(40, 3))]
            task["source"] = str(folder / "rsdo4.tsv")
            Path(task["source"]).write_text("\n".join(lines), encoding="utf-8")
        task["limit"] = {"train": 20, "test": 10}
    if raw["protocol"].get("preset") != "paper":
        small = {"trials": 1, "folds": 1, "seeds": [1], "cost_seconds": 1, "outer": "split"}
        raw["protocol"] |= small
        if raw["protocol"].pop("until", ""):
            raw["protocol"]["rows"] = [0.5]
        for entry in as_entries(raw["methods"]):
            entry.pop("learning_rates", None)
        raw["training"] = {"max_steps": 2, "eval_every": 2, "max_length": 64, "precision": "fp32"}
    return Study.parse(raw, base=EXAMPLES)


def test_the_examples_are_the_shipped_files() -> None:
    files = {path.stem: path for path in EXAMPLES.glob("*.yaml")}
    decoders = {name for name, _ in READOUTS}
    assert set(files) == {*shipped_studies(), *TRAINED, *decoders}
    for name, path in shipped_studies().items():
        assert files[name].resolve() == path.resolve()


@pytest.mark.parametrize(("name",), chosen([(name,) for name in TRAINED], 12))
def test_every_example_runs(
    name: str, tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    make_paper_quick(monkeypatch, max_length=64)
    translates = name in TRANSLATIONS
    model = tiny_marian(tmp_path / "marian") if translates else tiny_model("bert")
    study = small_example(name, tmp_path / "data", model)
    with finish(study, tmp_path / "store", costs=1) as store:
        states = store.load_statuses(study.study_hash)
        assert [s.message for s in states if s.state == "failed"] == []
        assert {s.stage for s in states if not s.ended} <= {"cost"}
        cells = {s.run.cell for s in states if s.stage == "final"}
    baselines = {"untuned", "copy_source"} if translates else {"majority", "tfidf", "head_only"}
    methods = {m.key for m in study.methods} | baselines
    methods |= {"gradient_boosting"} if name == "table" else set()
    assert {cell[2] for cell in cells} == methods
    study_report = report(study, store=tmp_path / "store")
    assert [task.key for task in study_report.tasks] == [task.key for task in study.tasks]
    assert all(row.score for task in study_report.tasks for row in task.cells)
    if name == "slobench":
        file, out = as_file(study, tmp_path / "slobench.yaml"), tmp_path / "out"
        arguments = ("export", "slobench", file, "--store", tmp_path / "store", "--output", out)
        assert command(capsys, *arguments)[0] == 0
        submission = ("slobench", "check", out / "superglue.zip", "--release", tmp_path / "data")
        assert "Ready to be handed in." in command(capsys, *submission)[1]


def test_the_data_of_labelled_rows_are_written_from_their_sources(tmp_path: Path) -> None:
    files = {
        "t/datasets/emotion/mapping.txt": "0\tjoy\n1\tanger\n",
        "t/datasets/emotion/train_labels.txt": "0\n1\n0\n",
        "t/datasets/emotion/train_text.txt": "so  glad\nso cross\nso glad\n",
        "t/datasets/sentiment/mapping.txt": "0\tnegative\n",
        "t/datasets/sentiment/val_labels.txt": "0\n",
        "t/datasets/sentiment/val_text.txt": "bad\n",
        "t/datasets/irony/train_labels.txt": "1\n",
        "t/datasets/irony/train_text.txt": "great, rain\n",
        "o/data/domains.json": json.dumps({"banking": ["balance"]}),
        "o/data/data_full.json": json.dumps({"train": [["what have I left", "balance"]]}),
        "c/data/ag_news_csv/classes.txt": "World\nSports\n",
        "c/data/ag_news_csv/test.csv": '"2","A win","Two to one"\n',
    }
    for part in PARTS:
        files[f"s/{part}.tsv"] = f"index_id\tcategory\ttext\n1\tx\t{part}\n"
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    main = run_path(str(EXAMPLES / "labelled_rows.py"))["main"]
    main(*(tmp_path / name for name in "tocs"), tmp_path / "data")
    written = {
        path.name: path.read_text(encoding="utf-8").splitlines()
        for path in (tmp_path / "data").rglob("*.?sv")
    }
    assert sorted(written["emotion.csv"]) == ["anger,so cross", "joy,so glad", "label,text"]
    assert written["irony.csv"][1:] == ['irony,"great, rain"']
    assert written["clinc.csv"][1:] == ["banking,what have I left"]
    assert written["ag_news.csv"][1:] == ["Sports,A win. Two to one"]
    assert [line.split("\t")[-1] for line in written["all.tsv"]] == ["text", *PARTS]
    study = Study.parse(read_example("labelled-rows"), base=tmp_path)
    assert {Path(str(task.train)).name for task in study.tasks} == {*written}


READOUTS = [
    ("slovene-llm", {"head", "label_words"}),
    ("metamath", {"text"}),
    ("sms", {"label_words"}),
    ("beyond-lora-decoder", {"label_words"}),
]


@pytest.mark.parametrize(("name", "readouts"), READOUTS)
def test_runs_of_a_study_of_decoders_are_planned(
    name: str, readouts: set[str], tmp_path: Path, tiny_model: Any
) -> None:
    """The file's tasks, methods and protocol, on made-up rows and one tiny decoder."""
    raw = read_example(name)
    raw["models"] = [{"name": str(tiny_model("llama")), "label": "tiny"}]
    for task in raw["tasks"]:
        if name == "slovene-llm":
            task["source"] = str(superglue(tmp_path / task["name"], "zips"))
        if task["name"] == "sib200":
            write_parts(task, tmp_path)
        if name == "metamath":
            rows = [{"prompt": f"{i}?", "completion": f" It is {i}."} for i in range(20)]
            file = tmp_path / "rows.jsonl"
            file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
            task |= {"train": str(file), "test": str(file)}
    raw["training"] |= {"precision": "fp32"}
    study = Study.parse(raw, base=EXAMPLES)
    planned = expand_study(prepare_study(study), [])
    on_model = [p.run for p in planned if p.run.model.name != "-"]
    assert {run.method.key for run in on_model} >= {m.key for m in study.methods}
    assert {run.readout for run in on_model if run.method.name != "head_only"} == readouts
    assert any(run.method.name == "untuned" for run in on_model)
