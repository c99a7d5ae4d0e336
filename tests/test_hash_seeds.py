"""What is drawn from a seed is the same in every process, whatever Python's hash seed is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "support" / "seeded_values.py"


@pytest.mark.thorough
def test_all_is_the_same_under_another_hash_seed(tmp_path: Path) -> None:
    """The digests of every value, from two processes side by side."""
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(tmp_path / hash_seed)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("1", "2")
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    first, second = (json.loads(output.splitlines()[-1]) for output in outputs)
    assert first == second and len(first) > 10
