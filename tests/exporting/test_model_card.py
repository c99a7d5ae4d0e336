"""The program on every card, run as it is printed, in a fresh process, answers as the run did.

Given is the folder of the export alone: the program is taken out of its README.md and run there.
What it is asked, and what its answers are compared with, are the rows of the test part.
"""

from __future__ import annotations

import ast
import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.cards import read_program
from support.slobench import release
from support.tiny_study import load_finals, small, train

from paretune.data.example import Dataset
from paretune.exporting import card
from paretune.study import Study, TaskSpec
from paretune.tasks import available, load_dataset as load_task
from paretune.testing.tiny_tasks import WORDS, tiny_task
from paretune.verbs.export import export

FORMS = ("peft", "merged", "paretune")
TEMPLATE = "A house of {rooms} rooms, built in {year}: {state}."
KINDS = (
    "classification", "pair", "multiple_choice", "regression", "table", "table_of_numbers",
    "answer_set", "span_pair", "choices_of_a_task", "multilabel",
)  # fmt: skip
WIDE = (("pair", "peft"), ("table_of_numbers", "merged"), ("multilabel", "merged"))
"""Pairs, numbers of a table and sets of labels; all else is slow."""
ASK = """

import sys
with open(sys.argv[1], encoding="utf-8") as file:
    asked = json_.load(file)
with open(sys.argv[2], "w", encoding="utf-8") as file:
    json_.dump(predict(asked), file)
"""
"""What a test appends to the program, to ask it for more than its own example."""


@pytest.fixture(scope="module")
def studies(tmp_path_factory: Any, tiny_model: Any) -> Any:
    """``studies(kind)``: a study of one task, run once, and its store."""
    by_kind: dict[str, tuple[Study, Path]] = {}

    def give(kind: str) -> tuple[Study, Path]:
        if kind not in by_kind:
            folder = tmp_path_factory.mktemp(kind)
            study = small(folder, tiny_model("bert"), **changes(kind, folder))
            by_kind[kind] = train(study, folder / "store")
        return by_kind[kind]

    return give


def changes(kind: str, folder: Path) -> dict[str, Any]:
    """What makes the small study one of this kind."""
    settings: dict[str, Any] = {
        "protocol": {"trials": 1, "folds": 1, "seeds": [1]},
        "methods": [{"name": "lora", "rank": 4, "learning_rates": [2e-2]}],
        "training": {"max_steps": 60, "eval_every": 20, "max_length": 40, "precision": "fp32"},
    }
    built_in = {"answer_set": "multirc", "span_pair": "wsc", "choices_of_a_task": "copa"}
    if kind in built_in:
        source = str(learnable(folder) if kind != "span_pair" else release(folder))
        settings["tasks"] = [{"name": built_in[kind], "language": "sl", "source": source}]
    elif kind.startswith("table"):
        settings["tasks"] = [table(folder / "data", numbers=kind == "table_of_numbers")]
    else:
        settings["tasks"] = [tiny_task(folder / "data", kind).model_dump(exclude_none=True)]
    return settings


def learnable(folder: Path) -> Path:
    """COPA and MultiRC in CLARIN's layout, in which what speaks of water is right."""

    def copa(i: int) -> dict[str, Any]:
        choices = ["The cat sat on water.", f"The dog is {WORDS[i % len(WORDS)]}."][
            :: 1 - 2 * (i % 2)
        ]
        return {
            "premise": f"{WORDS[i % len(WORDS)]} {i}",
            "choice1": choices[0],
            "choice2": choices[1],
            "question": ("cause", "effect")[i // 2 % 2],
            "label": i % 2,
        }

    def multirc(i: int) -> dict[str, Any]:
        answers = [
            {"idx": 2 * i + a, "text": ("The cat sat on water.", "The dog.")[a], "label": 1 - a}
            for a in range(2)
        ]
        question = {"idx": i, "question": "What is it?", "answers": answers}
        text = f"{WORDS[i % len(WORDS)]} {i}"
        return {"passage": {"text": text, "questions": [question]}}

    for name, make in (("COPA", copa), ("MultiRC", multirc)):
        (folder / name).mkdir()
        for part, count, first in (("train", 60, 0), ("val", 8, 100)):
            rows = [{"idx": i, **make(first + i)} for i in range(count)]
            lines = "\n".join(json.dumps(row) for row in rows)
            (folder / name / f"{part}.jsonl").write_text(lines, encoding="utf-8")
    return folder


def table(folder: Path, *, numbers: bool) -> dict[str, Any]:
    """A task of rows with a number, a year that may be missing, and a word."""
    folder.mkdir(parents=True)
    for part, count in (("train", 40), ("test", 12)):
        rows = [
            f"{2 + i % 5}.0,{'' if i % 7 == 3 else 1950 + i},{('cold', 'hot')[i % 2]},"
            f"{10 * (i % 2) + i / 100 if numbers else ('no', 'yes')[i % 2]}"
            for i in range(count)
        ]
        text = "\n".join(["rooms,year,state,label", *rows])
        (folder / f"{part}.csv").write_text(text, encoding="utf-8")
    shape = {"train": str(folder / "train.csv"), "test": str(folder / "test.csv")}
    shape |= {"template": TEMPLATE} if numbers else {"labels": ["no", "yes"]}
    kind = "regression" if numbers else "classification"
    return {"name": "houses", "kind": kind, "features": ["rooms", "year", "state"],
            "label": "label", **shape}  # fmt: skip


def asked_of(study: Study) -> list[Any]:
    """The test part as the card says that a row is given."""
    spec = study.tasks[0]
    if spec.features:
        with Path(str(spec.test)).open(encoding="utf-8", newline="") as file:
            return [{name: row[name] for name in spec.features} for row in csv.DictReader(file)]
    examples = [example.segments for example in load_task(spec).test]
    if len(examples[0]) > 1:
        return [[of[0][0], [second for _, second in of]] for of in examples]
    return [first if second is None else [first, second] for ((first, second),) in examples]


def answered(study: Study, store: Path) -> list[Any]:
    """What the run answered when it was scored, as ``predict`` gives it."""
    (record,) = load_finals(study, store, "lora")
    answers = list(record.predictions["test"].prediction)
    dataset = load_task(study.tasks[0])
    if dataset.kind in ("regression", "multiple_choice"):
        return answers
    if dataset.kind == "multilabel":
        names = dataset.labels
        return [[n for n, has in zip(names, a, strict=True) if has == "1"] for a in answers]
    return [dataset.labels[int(index)] for index in answers]


def by_the_card(folder: Path, inputs: list[Any], scratch: Path) -> tuple[Any, str]:
    """The answers of the card's program in a process of its own, and what it prints by itself."""
    (scratch / "asked.json").write_text(json.dumps(inputs), encoding="utf-8")
    lines = f"{read_program(folder)}\nimport json as json_\n{ASK}"
    (scratch / "program.py").write_text(lines, encoding="utf-8")
    source = Path(__file__).resolve().parents[2] / "src"
    done = subprocess.run(
        [sys.executable, scratch / "program.py", scratch / "asked.json", scratch / "said.json"],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(source), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "[transformers]" not in done.stderr  # of a head that the adapter brings
    return json.loads((scratch / "said.json").read_text(encoding="utf-8")), done.stdout


@pytest.mark.parametrize(
    ("task", "start"),
    [
        ("copa", "The text is `{premise} {question}`, the choices are `{choice1}`, `{choice2}`. "),
        ("wsc", "The first text is `{marked}`, the second is `{span2} = {span1}`. The text with "),
        ("multirc", "The first text is `{passage}`, the second is `{question} {answer}`. The "),
        ("boolq", "The first text is `{question}`, the second is `{passage}`. The question, "),
        ("follows", "The text is `{"),
    ],
)
def test_every_task_says_how_its_rows_become_texts(task: str, start: str) -> None:
    spec = TaskSpec(name=task, language="sl")
    kind = available()[task].kind
    dataset = Dataset(
        task=task, kind=kind, labels=("0", "1"), train=(), test=(), metric="accuracy",
        language="sl", licence="", source="",
    )  # fmt: skip
    description = " ".join(card.render_texts(spec, dataset).split())
    assert description.startswith(start) and "``" not in description
    for name, each in available().items():
        for template in each.templates:
            templated = TaskSpec(name=name, language="sl", template=template)
            assert "{" in card.render_texts(templated, dataset)


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        pytest.param(
            kind, form, marks=pytest.mark.wide if (kind, form) in WIDE else pytest.mark.slow
        )
        for kind in KINDS
        for form in FORMS
    ],
)
def test_the_cards_program_answers_as_the_run_did(
    studies: Any, kind: str, form: str, tmp_path: Path
) -> None:
    study, store = studies(kind)
    folder = tmp_path / "export"
    done = export(study, store=store, method="lora", form=form, output=folder)
    assert done.form == form
    assert done.answers.rows and not done.answers.different
    assert "http" not in done.card
    answers, printed = by_the_card(folder, asked_of(study), tmp_path)
    expected = answered(study, store)
    if load_task(study.tasks[0]).kind == "regression":
        expected = [pytest.approx(number, abs=1e-3) for number in expected]
    assert answers == expected
    assert len(set(map(str, answers))) > 1, "a constant answer would prove nothing"
    assert len(ast.literal_eval(printed)) == 1
