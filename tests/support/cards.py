"""The program on the card of an export, as whoever follows the card runs it."""

from __future__ import annotations

import contextlib
import io
import os
import re
from pathlib import Path
from typing import Any


def read_program(folder: Path) -> str:
    """The one program on the card."""
    readme = (folder / "README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    return str(program)


def run_program(folder: Path) -> tuple[dict[str, Any], str]:
    """What the program defines and prints, run where the card lies."""
    names: dict[str, Any] = {"__name__": "card"}
    before, out = Path.cwd(), io.StringIO()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out):
            exec(compile(read_program(folder), "card", "exec"), names)  # noqa: S102 (the card's)
    finally:
        os.chdir(before)
    return names, out.getvalue().strip()
