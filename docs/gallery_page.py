"""Writes a report page of the gallery: ``python docs/gallery_page.py STUDY NAME [--store FOLDER]``.

The page is the report's own, complete without scripts; these are left out, nine tenths of its size.
``--no-texts`` leaves out the texts of translations, where they are somebody else's.

``--archive`` writes ``gallery/NAME.tar.xz`` instead: the store without weights and checkpoints,
from which any machine goes on, once it is unpacked in the folder ``studies``. ``--no-trials``
leaves out the predictions of trials.
"""

from __future__ import annotations

import argparse
import contextlib
import lzma
import re
import shutil
import sqlite3
import tarfile
import tempfile
from pathlib import Path

from paretune.reporting.page import render_page
from paretune.store import Store
from paretune.store.blobs import blob_path
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


def archive_store(store: Path, file: Path, *, trials: bool = True) -> None:
    """The store without weights and checkpoints as a tar.xz, whose folder is named as the store.

    ``trials``: with the predictions of trials; without them the report says that they are missing.
    Their scores are kept, so the same learning rates are chosen.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / store.name
        drop = shutil.ignore_patterns("checkpoints", "report.html", "study.db*")
        shutil.copytree(store, folder, ignore=drop)
        with (
            contextlib.closing(sqlite3.connect(store / "study.db")) as source,
            contextlib.closing(sqlite3.connect(folder / "study.db")) as db,
        ):
            source.backup(db)  # a study may be running
            db.execute("DELETE FROM settings WHERE key LIKE 'memory/%'")  # predicted before a run
            db.commit()
            db.execute("VACUUM")
            done = db.execute(
                "SELECT run_id, stage, result ->> 'predictions' FROM runs WHERE state = 'done'"
            ).fetchall()
            (study,) = db.execute("SELECT study_hash FROM studies ORDER BY created").fetchall()[-1]
        with Store.open(folder) as copy:
            copy.drop_weights(study, [run for run, _, _ in done])
        of_trials = {blob for _, stage, blob in done if blob and stage == "tune"}
        of_others = {blob for _, stage, blob in done if stage != "tune"}
        for blob in set() if trials else of_trials - of_others:
            blob_path(folder / "blobs", blob).unlink()
        with (
            lzma.open(file, "wb", preset=9 | lzma.PRESET_EXTREME) as packed,
            tarfile.open(fileobj=packed, mode="w") as tar,
        ):
            files = [path for path in folder.rglob("*") if path.is_file()]
            for path in sorted(files, key=lambda path: path.stat().st_size):  # alike beside alike
                tar.add(path, path.relative_to(place))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study")
    parser.add_argument("name")
    parser.add_argument("--store")
    parser.add_argument("--no-texts", action="store_true")
    parser.add_argument("--archive", action="store_true")
    parser.add_argument("--no-trials", action="store_true")
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    if options.archive:
        store = Path(options.store or f"studies/{options.study}")
        archive_store(store, FOLDER / f"{options.name}.tar.xz", trials=not options.no_trials)
        raise SystemExit
    page = FOLDER / f"{options.name}.html"
    html = render_without_scripts(options.study, options.store, texts=not options.no_texts)
    page.write_text(html, encoding="utf-8")
    print(page, "written")  # noqa: T201
