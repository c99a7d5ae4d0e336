"""Starts a fake worker in a process of its own, and waits for what it leaves in the store."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from paretune.store import Store
from support.tiny_runs import STUDY

FAKE = Path(__file__).parent / "fake_worker.py"


def start(folder: Path, *arguments: str, **more) -> subprocess.Popen:
    command = [sys.executable, str(FAKE), str(folder), STUDY, *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **more)


def until(store: Store, condition, seconds: float = 120.0):
    patience = time.monotonic() + seconds
    while not condition(states := store.load_statuses(STUDY)):
        assert time.monotonic() < patience, states
        time.sleep(0.01)
    return states
