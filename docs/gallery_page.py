"""Writes a report page of the gallery: ``python docs/gallery_page.py STUDY NAME [--store FOLDER]``.

The page is the report's own, complete without scripts; these are left out, nine tenths of its size.
``--no-texts`` leaves out the texts of translations, where they are somebody else's.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from paretune.reporting.page import render_page
from paretune.verbs.report import report

FOLDER = Path(__file__).with_name("gallery")
_SCRIPT = re.compile(r"<script\b.*?</script>\s*", re.DOTALL)


def render_without_scripts(study: str, store: str | None, *, texts: bool = True) -> str:
    """The page of a study's results.

    Raises:
        StudyError, StoreError: no such study, or no results of it.
    """
    document = report(study, store=store)
    if not texts:
        tasks = [task.model_copy(update={"disagreement": None}) for task in document.tasks]
        document = document.model_copy(update={"tasks": tuple(tasks)})
    return _SCRIPT.sub("", render_page(document, lambda: ""))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study")
    parser.add_argument("name")
    parser.add_argument("--store")
    parser.add_argument("--no-texts", action="store_true")
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    page = FOLDER / f"{options.name}.html"
    html = render_without_scripts(options.study, options.store, texts=not options.no_texts)
    page.write_text(html, encoding="utf-8")
    print(page, "written")  # noqa: T201
