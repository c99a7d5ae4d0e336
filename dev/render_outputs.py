"""Write everything that the reading verbs print and write, to compare two versions of the code.

    PYTHONPATH=OLD/src python dev/render_outputs.py before STUDY=STORE ...
    PYTHONPATH=src     python dev/render_outputs.py after  STUDY=STORE ...
    diff -r before after

STUDY is a study file or a shipped name, STORE the folder of its results. Only the command line is
used, so that any two versions can be compared. Widths of the terminal: 80, 140 and 200.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from pathlib import Path

WIDTHS = (80, 140, 200)


def main() -> None:
    """Render each study into a folder of its own."""
    out, *pairs = sys.argv[1:]
    for number, pair in enumerate(pairs):
        study, store = pair.split("=", 1)
        render(study, store, Path(out) / f"{number}-{Path(store).name}")


def render(study: str, store: str, folder: Path) -> None:
    """Every output of one study."""
    folder.mkdir(parents=True)
    page, pictures, tables = (str(folder / name) for name in ("page.html", "figures", "tables"))
    source = [study, "--store", store]
    run(folder, "report", *source, "--page", page, "--figures", pictures, "--tables", tables)
    for width in WIDTHS:
        run(folder, "report", *source, "--page", page, width=width)
        run(folder, "report", *source, "--page", page, "--details", width=width)
    run(folder, "report", *source, "--json")
    run(folder, "recommend", *source)
    run(folder, "recommend", *source, "--json")
    run(folder, "recommend", *source, "--max-memory", "900MiB", "--within", "2pt")
    first, second = methods(study)[:2]
    run(folder, "compare", study, first, second, *source[1:])
    run(folder, "compare", study, first, second, *source[1:], "--json")
    drop_library(folder / "page.html")


def methods(study: str) -> list[str]:
    """Keys of the study's methods, or of two baselines."""
    from paretune.study import Study

    path = Path(study)
    loaded = Study.load(path) if path.suffix else Study.load(shipped(study))
    return [*(method.key for method in loaded.methods), "majority", "tfidf"]


def shipped(name: str) -> Path:
    """The file of a shipped study."""
    from paretune.verbs.study_input import shipped_studies

    return shipped_studies()[name]


def run(folder: Path, *arguments: str, width: int = 140) -> None:
    """Run one command in this process; its output becomes a file."""
    from paretune.cli import main as paretune

    os.environ["COLUMNS"] = str(width)
    printed = io.StringIO()
    sys.argv = ["paretune", *arguments]
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            paretune()
        except SystemExit as end:
            printed.write(f"exit {end.code}\n")
    options = [a.strip("-") for a in arguments if a.startswith("--") and a != "--store"]
    name = "-".join([arguments[0], *options, str(width)])
    text = printed.getvalue().replace(str(folder), "OUT")
    (folder / f"{name}.txt").write_text(text, encoding="utf-8")


def drop_library(page: Path) -> None:
    """Without the charting library, which is nearly all of the page."""
    if page.exists():
        text = page.read_text(encoding="utf-8")
        page.write_text(re.sub(r"<script>/\*!.*?</script>", "VEGA", text, flags=re.S), "utf-8")


if __name__ == "__main__":
    main()
