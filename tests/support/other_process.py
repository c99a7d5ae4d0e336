"""Trains a run in a process of its own with another hash seed: to compare every bit with ours."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from paretune.study import Run


def digests(outcome: Any) -> dict[str, str]:
    """The result and every blob of an outcome, as digests."""
    contents = {name: bytes(content) for name, content in outcome.blobs.items()}
    contents["result"] = json.dumps(dict(outcome.result), sort_keys=True).encode()
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def train_elsewhere(run: Run, folder: Path) -> dict[str, str]:
    """The digests of the run, trained by a fresh process with another ``PYTHONHASHSEED``."""
    trained = subprocess.run(
        [sys.executable, __file__, run.model_dump_json(), str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "12345"},
    )
    assert trained.returncode == 0, trained.stderr
    result: dict[str, str] = json.loads(trained.stdout.splitlines()[-1])
    return result


def _train(run: str, folder: str) -> None:
    from paretune.training.trainer import train_run

    outcome = train_run(
        Run.model_validate_json(run), checkpoint=Path(folder), report=lambda *_: None
    )
    print(json.dumps(digests(outcome)))


if __name__ == "__main__":
    _train(*sys.argv[1:])
