"""Which libraries a command line loads, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

MODEL_LIBRARIES = ("torch", "transformers", "peft", "sklearn", "scipy.stats", "pandas")
COMMANDS = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from paretune.cli import main
codes = []
for arguments in json.loads(sys.argv[1]):
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        try:
            main(arguments)
        except SystemExit as end:
            codes.append(end.code)
print(json.dumps([codes, [name for name in json.loads(sys.argv[2]) if name in sys.modules]]))
"""


def list_loaded(
    *commands: Sequence[object],
    modules: Sequence[str] = MODEL_LIBRARIES,
    folder: Path | None = None,
    prefix: Sequence[str] = (),
) -> tuple[list[int], list[str]]:
    """Exit codes of the commands, and which of the modules they have loaded.

    Args:
        commands: words behind ``paretune``, executed one after another.
        prefix: the program that executes Python, with its arguments.
    """
    lines = [[str(word) for word in words] for words in commands]
    argv = [*prefix, sys.executable, "-c", COMMANDS, json.dumps(lines), json.dumps(modules)]
    ended = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=True)
    codes, loaded = json.loads(ended.stdout)
    return codes, loaded
