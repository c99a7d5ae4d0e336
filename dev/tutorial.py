"""Run the commands of docs/first-answer.md and write into the page what they print.

    python dev/tutorial.py FOLDER

FOLDER is made for it; the runs take some minutes. A block of ``console`` is a command; one of
``diff`` changes the study file; what a block of ``python`` prints becomes the block behind it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "first-answer.md"
STUDY = "messages.yaml"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def main() -> None:
    """Write the page anew."""
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True)
    printed = ""

    def fill(block: re.Match[str]) -> str:
        nonlocal printed
        kind, body = block.groups()
        if kind == "diff":
            file = folder / STUDY
            file.write_text(change(file.read_text("utf-8"), body), encoding="utf-8")
        elif kind == "console":
            command = body.splitlines()[0]
            program = "from paretune.cli import main; main()"
            body = f"{command}\n{run([program, *shlex.split(command)[2:]], folder)}"
        elif kind == "python":
            printed = run([body], folder)
        elif not kind:
            body = printed
        return f"```{kind}\n{body}```"

    text = BLOCK.sub(fill, PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(text, encoding="utf-8")


def run(program: list[str], folder: Path) -> str:
    """What a Python program prints on 80 columns, without blanks at line ends and local paths."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", *program],
        cwd=folder,
        env={**os.environ, "COLUMNS": "80"},
        text=True,
        stdout=subprocess.PIPE,
        check=True,
    )
    text = re.sub(r"/\S+/site-packages/", ".../", done.stdout.replace(str(folder), "..."))
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def change(text: str, diff: str) -> str:
    """Lines with ``-`` give way to those with ``+``."""
    for gone, come in re.findall(r"((?:^-.*\n)+)((?:^\+.*\n)+)", diff, re.MULTILINE):
        before, after = (re.sub(r"^.", "", part, flags=re.MULTILINE) for part in (gone, come))
        if before not in text:
            raise SystemExit(f"docs/first-answer.md changes lines that {STUDY} lacks:\n{before}")
        text = text.replace(before, after)
    return text


if __name__ == "__main__":
    main()
