"""Draw the picture of the README: the answer of a study, as a terminal of 80 columns shows it.

    python dev/readme_picture.py studies/demo docs/images/demo.svg

The store has the results of the shipped study ``demo``. The picture is SVG that names no font file
and loads nothing.
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.terminal_theme import MONOKAI

from paretune.reporting.text.terminal import print_answer
from paretune.terminal.rich_console import Terminal
from paretune.verbs.report import report

REMARK = "Three seeds are a first look; a claim needs five."


def draw(store: Path) -> str:
    """The SVG of what `paretune demo` prints at its end."""
    console = Terminal(file=io.StringIO(), width=80, force_terminal=True)
    console.record = True
    console.print("$ paretune demo")
    print_answer(report("demo", store=store), console, REMARK)
    console.print("Page: studies/demo/report.html")
    form = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return console.export_svg(title="paretune", theme=MONOKAI, code_format=form, unique_id="demo")


def main() -> None:
    """Write the picture."""
    store, picture = map(Path, sys.argv[1:])
    picture.write_text(draw(store), encoding="utf-8")


if __name__ == "__main__":
    main()
