"""A release of SloBench's SuperGLUE in small, and a study of its six tasks."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from paretune.study import Study
from paretune_slovene.slobench.superglue_rows import NAMES
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


def six(folder: Path, model: Path, source: Path, **changes: Any) -> Study:
    """All six tasks, one seed, two steps a run."""
    names = changes.pop("names", NAMES)
    defaults: dict[str, Any] = {
        "tasks": [{"name": name, "language": "sl", "source": str(source)} for name in names],
        "protocol": {"trials": 1, "folds": 1, "seeds": [1]},
        "training": {"max_steps": 2, "eval_every": 2, "max_length": 48, "precision": "fp32"},
    }
    return small(folder, model, **{**defaults, **changes})
