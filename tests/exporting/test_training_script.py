"""``export --script``: the file trains again what the run has trained, without paretune."""

from __future__ import annotations

import ast
import csv
import json
import re
import runpy
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny_study import load_finals, small, train

from paretune.errors import MethodError, StudyError
from paretune.exporting import formats
from paretune.exporting.restore import TaskSignature, restore_run
from paretune.store import Store
from paretune.study import Study
from paretune.training.caches import ProcessCache
from paretune.verbs.export import export

METHODS: list[dict[str, Any]] = [
    {"name": "full", "learning_rates": [1e-3]},
    {"name": "lora", "rank": 2, "learning_rates": [1e-2], "loraplus_lr_ratio": 4},
    {"name": "dora", "rank": 2, "learning_rates": [1e-2]},
    {"name": "ia3", "learning_rates": [1e-2]},
    {"name": "loha", "rank": 2, "learning_rates": [1e-2]},
    {"name": "houlsby", "learning_rates": [1e-2]},
    "head_only",
]
EXACT = ("full", "lora", "dora", "ia3")
"""Methods whose first weights the script draws as the run drew them; PEFT draws others."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: Any, tiny_model: Any) -> tuple[Study, Path]:
    """Three epochs without dropout, in which the models learn something."""
    folder = tmp_path_factory.mktemp("study")
    study = small(
        folder,
        tiny_model("distilbert"),
        methods=METHODS,
        protocol={"trials": 1, "folds": 1, "seeds": [3]},
        training={
            "epochs": 3, "batch_size": 8, "max_length": 32, "precision": "fp32", "dropout": 0.0,
            "class_weights": {"no": 1.0, "yes": 2.0}, "label_smoothing": 0.1,
        },
    )  # fmt: skip
    return train(study, folder / "store")


def write_rows(path: Path, examples: Any, labels: Any) -> Path:
    """Examples as a file that the study's columns fit."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([e.segments[0][0], labels[e.label]] for e in examples)
    return path


def run_script(monkeypatch: pytest.MonkeyPatch, file: Path, *arguments: object) -> dict[str, Any]:
    """Its names, once it has ended; no module of paretune is imported by it."""
    nodes = ast.walk(ast.parse(file.read_text("utf-8")))
    imported = [
        alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
    ]
    assert "torch" in imported and "paretune" not in imported
    monkeypatch.setattr(sys, "argv", [str(file), *map(str, arguments)])
    return runpy.run_path(str(file), run_name="__main__")


def read_predictions(folder: Path) -> list[str]:
    lines = (folder / "predictions.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["prediction"] for line in lines]


@pytest.mark.thorough
@pytest.mark.parametrize("method", [*EXACT, "loha"])
def test_the_script_gives_the_answers_of_the_run(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    study, store = trained
    done = export(
        study, store=store, method=method, script=True, output=tmp_path / "train.py",
        allow_collapsed=True,
    )  # fmt: skip
    assert (done.form, done.folder) == ("script", tmp_path / "train.py")
    (record,) = load_finals(study, store, method)
    caches = ProcessCache()
    parts, labels = caches.parts(record.run), caches.dataset(record.run.task).labels
    names = run_script(
        monkeypatch,
        done.folder,
        write_rows(tmp_path / "rows.csv", parts.train, labels),
        "--test",
        write_rows(tmp_path / "test.csv", parts.test, labels),
        "--output",
        tmp_path / "model",
    )
    answers = read_predictions(tmp_path / "model")
    stored = record.predictions["test"]
    assert len(answers) == len(stored.prediction)
    if method not in EXACT:
        return
    assert answers == [labels[int(str(place))] for place in stored.prediction]
    with Store.open(store) as opened:
        weights = opened.read_blob(record.result["weights"])
    task = TaskSignature.of(record.run, caches.dataset(record.run.task))
    source = caches.source(record.run.model)
    prepared = restore_run(record.run, task, source, weights)
    batch = formats.make_batch(record.run, caches.dataset(record.run.task), parts.test, prepared)
    untrained = restore_run(record.run, task, source, None)
    before = formats.compute_logits(untrained.loaded.model, batch)
    expected = formats.compute_logits(prepared.loaded.model, batch)
    form = "merged" if method == "full" else "peft"
    actual = formats.compute_logits(
        formats.open_export(form, task, source, tmp_path / "model"), batch
    )
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3)
    assert (expected - before).abs().max() > 0.1  # training moved it a hundred times as far
    assert names["SEED"] == 3


def test_it_says_what_it_needs(trained: Any, tmp_path: Path, capsys: Any) -> None:
    study, store = trained
    file = tmp_path / "deep" / "train.py"
    export(study, store=store, method="lora", script=True, output=file, allow_collapsed=True)
    text = file.read_text("utf-8")
    block = re.search(r"^# /// script\n((?:#.*\n)+?)# ///$", text, re.MULTILINE)
    assert block is not None
    settings = tomllib.loads(re.sub(r"^# ?", "", block[1], flags=re.MULTILINE))
    needed = [one.partition("==")[0] for one in settings["dependencies"]]
    assert needed == ["torch", "transformers", "peft", "numpy"]
    assert all("+" not in one for one in settings["dependencies"])
    with pytest.raises(StudyError, match="exists already and is not overwritten"):
        export(study, store=store, method="lora", script=True, output=file, allow_collapsed=True)


@pytest.mark.parametrize(
    ("method", "why"),
    [
        ("houlsby", "has no training script: PEFT has no "),
        ("head_only", "has no training script: .* is no adapter"),
    ],
)
def test_what_peft_has_not_is_refused(trained: Any, tmp_path: Path, method: str, why: str) -> None:
    study, store = trained
    options: dict[str, Any] = {"method": method, "script": True, "allow_collapsed": True}
    with pytest.raises(MethodError, match=why):
        export(study, store=store, output=tmp_path / "x.py", **options)
    assert not (tmp_path / "x.py").exists()


def test_options_of_weights_are_refused(trained: Any, tmp_path: Path) -> None:
    study, store = trained
    for options in ({"form": "peft"}, {"push": "owner/name"}, {"train_again": True}):
        with pytest.raises(StudyError, match="is not used with script=True, which exports no w"):
            export(study, store=store, method="lora", script=True, **options)


def test_mistakes_in_the_data_are_sentences(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, store = trained
    file = tmp_path / "train.py"
    export(study, store=store, method="full", script=True, output=file, allow_collapsed=True)
    for content, message in (
        ("text,label\na,maybe\n", r"row 1: maybe is none of \['no', 'yes'\]"),
        ("text,other\na,b\n", "row 1: nothing in column label"),
        ("other,label\na,yes\n", "row 1: no text in column text"),
    ):
        (tmp_path / "rows.csv").write_text(content)
        with pytest.raises(SystemExit, match=message):
            run_script(monkeypatch, file, tmp_path / "rows.csv", "--output", tmp_path / "model")
    assert not (tmp_path / "model").exists()
