"""A served study while its workers and server are killed and answers are lost, for real."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "serve_faults.py"


@pytest.mark.slow
def test_kills_and_lost_answers_change_nothing(tmp_path: Path) -> None:
    """The large one is the benchmark as it is: 200 kills of workers and 20 of the server."""
    report = tmp_path / "faults.json"
    command = [sys.executable, str(BENCH), "--workers", "3", "--seeds", "4", "--worker-kills", "10"]
    subprocess.run([*command, "--server-kills", "3", "--json", str(report)], check=True)
    summary = json.loads(report.read_text(encoding="utf-8"))
    assert summary["worker_kills"] > 0 and summary["server_kills"] > 0
    assert summary["answers_dropped"] > 0
    assert [summary[name] for name in ("lost", "double", "different")] == [0, 0, 0]
    assert summary["problems"] == []
