"""SloBench and the paper in small: a release, six tasks, scores of whole texts, a quick preset."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paretune.data.example import Dataset
from paretune.store import Record
from paretune.study import Study, TaskSpec
from paretune.tasks import load_dataset
from paretune.verbs import report as reports
from paretune_slovene.paper import preset
from paretune_slovene.slobench.nltk_ngrams import count_ngrams, from_sums
from paretune_slovene.slobench.superglue_submission import NAMES
from support.tiny_study import ROWS, small, superglue

UNLABELLED = 7
"""Rows of each test file; of MultiRC passages, with 4 answers each."""


def release(folder: Path) -> Path:
    """SloBench's three zips with made-up rows; those of the test part without labels."""
    superglue(folder, "zips")
    with zipfile.ZipFile(folder / "qa_test.zip", "w") as archive:
        for task, make in ROWS.items():
            rows = [{"idx": i, **unlabelled(make("new", i))} for i in range(UNLABELLED)]
            archive.writestr(f"{task}.jsonl", "\n".join(json.dumps(row) for row in rows))
    return folder


def unlabelled(row: dict[str, Any]) -> dict[str, Any]:
    """The row as a test file has it."""
    row.pop("label", None)
    for question in row.get("passage", {}).get("questions", []) if "question" not in row else []:
        for answer in question["answers"]:
            del answer["label"]
    return row


def write_rows(
    folder: Path, task: str, train: Sequence[Any], val: Sequence[Any], test: Sequence[Any] = ()
) -> Path:
    """A task's files as CLARIN publishes them; the folder."""
    for part, rows in (("train", train), ("val", val), ("test", test)):
        path = folder / task / f"{part}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        if rows:
            path.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in rows), "utf-8")
    return folder


def load(name: str, source: Path, language: str = "sl", **options: Any) -> Dataset:
    """The dataset of a task that is read from a folder."""
    return load_dataset(TaskSpec(name=name, language=language, source=str(source), **options))


def six(folder: Path, model: Path, source: Path, **changes: Any) -> Study:
    """All six tasks, one seed, two steps a run."""
    names = changes.pop("names", NAMES)
    defaults: dict[str, Any] = {
        "tasks": [{"name": name, "language": "sl", "source": str(source)} for name in names],
        "protocol": {"trials": 1, "folds": 1, "seeds": [1]},
        "training": {"max_steps": 2, "eval_every": 2, "max_length": 48, "precision": "fp32"},
    }
    return small(folder, model, **{**defaults, **changes})


def keep_records(keep: Callable[[Record], bool]) -> Callable[..., Any]:
    """A ``load_results`` that leaves some records out."""

    def gather(*arguments: Any) -> Any:
        results = real(*arguments)
        return replace(results, records=[*filter(keep, results.records)])

    real = reports.load_results
    return gather


def make_paper_quick(patch: pytest.MonkeyPatch, max_length: int) -> None:
    """The paper's preset with two steps a run."""
    settings = preset.read_settings()
    training = {"max_steps": 2, "eval_every": 2, "max_length": max_length}
    quick = {**settings, "training": {**settings["training"], **training}}
    patch.setattr(preset, "read_settings", lambda: quick)


def bleu(hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> float:
    """BLEU-4 over all sentences together, in 0..1; of one sentence: lists of one."""
    counts = [count_ngrams(*pair) for pair in zip(hypotheses, references, strict=True)]
    return float(from_sums(np.array(counts).sum(axis=0))) if counts else 0.0
