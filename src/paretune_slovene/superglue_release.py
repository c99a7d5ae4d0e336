"""SuperGLUE's files in every published layout: SloBench's zips, folders, and CLARIN's.

==============  ============================================================
layout          files looked for in the folder
==============  ============================================================
SloBench zips   ``qa_train.zip``, ``qa_validation.zip``, ``qa_test.zip``
unpacked zips   ``qa_train/BoolQ.jsonl``, ``qa_validation/...``, ``qa_test/...``
CLARIN          ``BoolQ/train.jsonl``, ``BoolQ/val.jsonl``, ``BoolQ/test.jsonl``
==============  ============================================================

The published test files have no labels: `val` is the test part, and `test` is unlabelled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from paretune.data.finding import Finding
from paretune.data.rows import Row, read_rows
from paretune.data.task import Task, TaskRows
from paretune.errors import DataError
from paretune.files import data_home as default_home, expand_home
from paretune.objectives.example import Segments
from paretune.study import TaskSpec

COLLECTION_NAME = "superglue-sl"
LICENCE = {
    "sl": "CC BY 4.0 (CLARIN.SI 11356/1380)",
    "en": "set by the authors of each set; not verified by paretune",
}
SOURCE = {
    "sl": "Slovene SuperGLUE, human translation (SloBench release): "
    "https://github.com/clarinsi/slobench-eval-docker, http://hdl.handle.net/11356/1380",
    "en": "SuperGLUE (Wang et al., 2019): https://super.gluebenchmark.com",
}
_ZIPS = ("qa_train", "qa_validation", "qa_test")
_FILES = ("train", "val", "test")


Reshape = Callable[[Sequence[Row], str], tuple[list[Row], list[Finding]]]
"""A function from the published rows of a part (``train``, ``test``, ``unlabelled``) to one row for
each example, and findings; findings that are errors stop the task."""


def superglue_task(
    name: str,
    folder: str,
    reshape: Reshape = lambda rows, part: ([*rows], []),
    paper: str = "",
    **facts: Any,
) -> Task:
    """A task of SuperGLUE, in Slovene and English.

    Args:
        folder: what its files are called: ``BoolQ``.
        paper: the text that the paper's notebooks built; by default the columns are a pair.
        facts: further fields of :class:`~paretune.data.task.Task`.
    """

    def read(spec: TaskSpec, language: str, data_home: Path | None) -> TaskRows:
        base = _release_folder(spec, language, data_home)
        places = _find_files(base, folder)
        if places is None:
            raise DataError(
                f"holds no {folder} in a known layout.",
                where=str(base),
                remedy="Looked for qa_train.zip, qa_train/"
                f"{folder}.jsonl and {folder}/train.jsonl (and the validation file).",
            )
        train, test, unlabelled = places
        rest = read_rows(unlabelled) if unlabelled else []
        rows = {"train": read_rows(train), "test": read_rows(test), "unlabelled": rest}
        findings: list[Finding] = []
        for part in rows:
            rows[part], notes = reshape(rows[part], part)
            findings += notes
        return TaskRows(rows["train"], rows["test"], rows["unlabelled"], tuple(findings))

    def pair(row: Mapping[str, str], language: str) -> Segments:
        return ((row[first], row[second]),)

    def as_in_paper(row: Mapping[str, str], language: str) -> Segments:
        """One text, as the paper's notebooks built it; a cut may lose its end."""
        return ((paper.format(**row), None),)

    first, second, *_ = facts["columns"]
    pair.__doc__ = f"The {first}, then the {second}."  # exports show it
    usual = {"kind": "pair", "metric": "accuracy", "id": "idx", "languages": ("sl", "en")}
    facts = {"templates": {"pair": pair, "paper": as_in_paper}, **usual, **facts}
    return Task(name=name, licence=LICENCE, source=SOURCE, read_rows=read, **facts)


def _release_folder(spec: TaskSpec, language: str, data_home: Path | None) -> Path:
    if spec.source is not None:
        base = expand_home(spec.source)
        if not base.is_dir():
            raise DataError(
                "no such folder.",
                where=str(base),
                remedy=f"source of task {spec.key} is a folder in SloBench's or CLARIN's layout.",
            )
        return base
    if language != "sl":
        raise DataError(
            f"{spec.key} has no data to download.",
            remedy="Give the task source: FOLDER, where FOLDER/CB/train.jsonl and val.jsonl "
            "lie (unpack the zips of https://super.gluebenchmark.com/tasks).",
        )
    base = (data_home or default_home()) / COLLECTION_NAME
    if not (base / "qa_train.zip").is_file():
        raise DataError(
            "the Slovene SuperGLUE has not been downloaded.",
            where=str(base),
            remedy=f"Run `paretune data fetch {COLLECTION_NAME}`, or give the task source: FOLDER.",
        )
    return base


def _find_files(base: Path, folder: str) -> tuple[str, str, str | None] | None:
    layouts = (
        [base / f"{name}.zip" for name in _ZIPS],
        [base / name / f"{folder}.jsonl" for name in _ZIPS],
        [base / folder / f"{name}.jsonl" for name in _FILES],
    )
    for files in layouts:
        train, test, unlabelled = files
        if train.is_file() and test.is_file():
            inside = f"::{folder}.jsonl" if train.suffix == ".zip" else ""
            rest = f"{unlabelled}{inside}" if unlabelled.is_file() else None
            return f"{train}{inside}", f"{test}{inside}", rest
    return None
