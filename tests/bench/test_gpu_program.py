"""The program of `make gpu`, tried on a CPU with a toy model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_all_of_it_runs_on_a_cpu(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "bench" / "gpu.py"), "--out", str(tmp_path)]
    command += ["--device", "cpu", "--tiny", "--steps", "2", "--rounds", "2", "--minutes", "60"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert results["tests"]["outcomes"]["passed"] > 30 and not results["tests"]["failed"]
    sides = {"field", "ours", "fleet-4"}  # a decoder's, of a billion numbers, alone
    assert [set(one["ms"]) for one in results["steps"]] == [sides, {"field", "ours"}]
    assert {one["side"] for one in results["memory"]} == sides
    assert all(one["phases"]["train"]["peak_bytes"] > 0 for one in results["memory"])
    page = (tmp_path / "gpu.html").read_text(encoding="utf-8")
    assert "paretune, 4 runs together" in page and "Not measured" not in page
