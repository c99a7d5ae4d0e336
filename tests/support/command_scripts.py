"""What scripts of commands begin with, and waiting for what they do."""

from __future__ import annotations

import time
from collections.abc import Callable

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
