"""Refuse private words as names: ``make check`` runs it.

    python dev/check_names.py

A reader of the field looks for its standard terms. A name such as ``found`` or ``told`` says
nothing about the value that it holds: say what it is (``scores``, ``on_progress``).
"""

from __future__ import annotations

import sys
from pathlib import Path

from structure import PRIVATE_WORDS, find_private_words, parse_files

ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "dev", "bench", "tests")


def main() -> None:
    """Print each such name with its place; exit with 1 if there is one."""
    faults = [
        f"{path.relative_to(ROOT)}:{line}: name {name!r} says nothing: choose what the value is"
        for folder in FOLDERS
        for path, tree in parse_files(ROOT / folder).items()
        for line, name in find_private_words(tree)
    ]
    print(*faults, sep="\n")
    if faults:
        sys.exit(f"{len(faults)} names of {', '.join(sorted(PRIVATE_WORDS))}.")


if __name__ == "__main__":
    main()
