"""Run the commands of docs/tutorial.md and write into the page what they print.

    python dev/tutorial.py FOLDER

FOLDER keeps the study and its results, so that a second call trains nothing. A block of ``console``
is a command; one of ``diff`` changes the study file; what a block of ``python`` prints becomes the
block behind it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
STUDY = "messages.yaml"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DONE = ("already exists", "cannot be written (File exists)")
"""What a second call says where the first has written."""


def main() -> None:
    """Write the page anew."""
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    text, printed = PAGE.read_text(encoding="utf-8"), ""

    def fill(block: re.Match[str]) -> str:
        nonlocal printed
        kind, body = block.groups()
        if kind == "diff":
            file = folder / STUDY
            file.write_text(change(file.read_text("utf-8"), body), encoding="utf-8")
        elif kind == "console":
            command, _, before = body.partition("\n")
            body = f"{command}\n{show(shlex.split(command)[2:], folder) or before}"
        elif kind == "python":
            printed = run([sys.executable, "-c", body], folder)
        elif not kind:
            body = printed
        return f"```{kind}\n{body}```"

    PAGE.write_text(BLOCK.sub(fill, text), encoding="utf-8")


def show(arguments: list[str], folder: Path) -> str:
    """What a command of paretune prints; "" where an earlier call has done it."""
    program = "from paretune.cli import main; main()"
    output = run([sys.executable, "-c", program, *arguments], folder)
    return "" if any(sign in output for sign in DONE) else output


def run(command: list[str], folder: Path) -> str:
    """The output of a command on a terminal of 80 columns, without blanks at line ends."""
    environment = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(  # noqa: S603
        command,
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    lines = [line.rstrip() for line in done.stdout.replace(str(folder), "...").splitlines()]
    return "".join(f"{line}\n" for line in lines)


def change(text: str, diff: str) -> str:
    """Lines with ``-`` give way to those with ``+``; a second time there is nothing to change."""
    for gone, come in re.findall(r"((?:^-.*\n)+)((?:^\+.*\n)+)", diff, re.MULTILINE):
        before, after = (re.sub(r"^.", "", part, flags=re.MULTILINE) for part in (gone, come))
        if before not in text and after not in text:
            raise SystemExit(f"docs/tutorial.md changes lines that {STUDY} lacks:\n{before}")
        text = text.replace(before, after)
    return text


if __name__ == "__main__":
    main()
