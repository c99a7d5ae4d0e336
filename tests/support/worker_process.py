"""Starts a fake worker in a process of its own, and waits for what it leaves in the store."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from paretune.execution.worker_settings import DEFAULT_SETTINGS, WorkerSettings
from paretune.store import Store
from support.tiny_runs import STUDY

FAKE = Path(__file__).parent / "fake_worker.py"


def start(
    folder: Path, settings: WorkerSettings = DEFAULT_SETTINGS, **more: Any
) -> subprocess.Popen[Any]:
    command = [sys.executable, str(FAKE), str(folder), STUDY, settings.to_json()]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **more)


def until(store: Store, condition, seconds: float = 120.0):
    patience = time.monotonic() + seconds
    while not condition(states := store.load_statuses(STUDY)):
        assert time.monotonic() < patience, states
        time.sleep(0.01)
    return states
