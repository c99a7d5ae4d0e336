"""The mistakes of new users: exit code and words of each (``dev/first_hour.py``)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "dev" / "first_hour.py"


@pytest.mark.slow
def test_every_mistake_is_answered_as_listed() -> None:
    ended = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True)
    faults = [line for line in ended.stdout.splitlines() if "**" in line]
    assert (ended.returncode, faults) == (0, []), ended.stderr
    assert len(ended.stdout.splitlines()) > 90
