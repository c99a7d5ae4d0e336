"""The functions that one study calls, from its file to its page, in the order of the first calls.

    python dev/walk.py STUDY.yaml                 # the package that is installed or on PYTHONPATH
    python dev/walk.py STUDY.yaml --lines         # only how many files and lines a reader needs

The study is run and reported in processes of their own, where a profiler notes each function of
paretune when it is called for the first time. What only prepares a process (imports, options) is
in the list too: it is what a reader meets who follows the calls.
"""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HOOK = """
import os, sys, threading
_folder, _seen = os.environ["WALK_FOLDER"], set()
def _note(frame, event, argument):
    if event == "call":
        code = frame.f_code
        if "/src/paretune/" in code.co_filename and code.co_filename.endswith(".py"):
            key = (code.co_filename, code.co_qualname)
            if key not in _seen and not code.co_name.startswith("<"):
                _seen.add(key)
                with open(os.path.join(_folder, str(os.getpid())), "a") as notes:
                    notes.write(f"{code.co_filename}\\t{code.co_qualname}\\t{code.co_firstlineno}\\n")
sys.setprofile(_note)
threading.setprofile(_note)
"""


def trace_study(study: Path, store: Path) -> list[tuple[Path, str, int]]:
    """File, name and line of each function, in the order of the first calls."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "hook").mkdir()
        (folder / "hook" / "sitecustomize.py").write_text(HOOK)
        (folder / "notes").mkdir()
        path = os.pathsep.join([str(folder / "hook"), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path, "WALK_FOLDER": str(folder / "notes")}
        for verb in (["run", str(study), "--no-report", "--workers", "1"], ["report", str(study)]):
            subprocess.run(  # noqa: S603
                [sys.executable, "-m", "paretune", *verb, "--store", str(store)],
                check=True,
                env=environment,
                stdout=subprocess.DEVNULL,
            )
        calls: dict[tuple[str, str, int], None] = {}
        for notes in sorted((folder / "notes").iterdir(), key=lambda p: int(p.name)):
            for line in notes.read_text().splitlines():
                file, name, number = line.split("\t")
                calls[file, name, int(number)] = None
    return [(Path(file), name, number) for file, name, number in calls]


def count_lines(calls: list[tuple[Path, str, int]]) -> tuple[int, int, int]:
    """Files, their lines, and the lines of the functions alone."""
    files = {file for file, _, _ in calls}
    whole = sum(len(file.read_text().splitlines()) for file in files)
    first_lines = {(file, number) for file, _, number in calls}
    function_lines = 0
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                if (file, first) in first_lines and node.end_lineno is not None:
                    function_lines += node.end_lineno - first + 1
    return len(files), whole, function_lines


def main() -> None:
    """Print the walk and its size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--lines", action="store_true", help="only the size")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as store:
        calls = trace_study(options.study, Path(store))
    if not options.lines:
        for file, name, number in calls:
            print(f"{file.as_posix().split('/src/')[-1]}:{number} {name}")
    files, lines, function_lines = count_lines(calls)
    print(f"{files} files of {lines} lines; the functions alone: {function_lines} lines")


if __name__ == "__main__":
    main()
