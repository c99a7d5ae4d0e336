"""Scripts of commands, studies with them, and waiting for what they do."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paretune.study import Study
from support.tiny_study import two_files

READ = """
import json, os, pathlib, sys, time
train, validation, test, out = sys.argv[1:5]
read = lambda path: [json.loads(line) for line in open(path, encoding="utf-8")]
def answer(rows):
    lines = [json.dumps(row) for row in rows]
    pathlib.Path(out, "predictions.jsonl").write_text("\\n".join(lines))
ids = [row["id"] for row in read(test)]
labels = [row["label"] for row in read(train)]
"""
FIRST = "answer([{'id': i, 'prediction': labels[0]} for i in ids])"


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def use_command(folder: Path, words: str, **options: Any) -> dict[str, Any]:
    words = f"{shlex.quote(sys.executable)} script.py {words}"
    return {"name": "command", "run": words, "folder": str(folder), **options}


def make_study(task: dict[str, Any], *methods: Any, **changes: Any) -> Study:
    protocol = {"seeds": [1, 2], "outer": 2, **changes.pop("protocol", {})}
    raw = {"study": "trainers", "tasks": [task], "methods": methods, "protocol": protocol}
    return Study.parse({**raw, **changes})


def answer_first(folder: Path, script: str = FIRST, **options: Any) -> Study:
    """A study of texts with a command that answers one label, and needs no model."""
    (folder / "script.py").write_text(READ + script, encoding="utf-8")
    task = {"name": "words", "kind": "classification", "text": "text", "label": "label"}
    task |= {"train": str(two_files(folder)), "test": str(folder / "test.csv")}
    words = "{train} {validation} {test} {out} {seed}"
    return make_study(task, use_command(folder, words, **options), protocol={"outer": "split"})
