"""RSDO4 (Repar and Lebar Bajec, 2021): Slovene and English, 964,433 pairs, in either direction.

Texts of public institutions and of donors, collected in the project "Slovene in the Digital
Environment", in random order. ``source`` names what was downloaded from CLARIN.SI (a file, a
folder or a zip; see :mod:`paretune.data.formats.parallel_corpus` for what is looked for); without
it the rows are
those of the hub, which keeps them as Parquet, so that no script of a dataset is run. Pairs with an
empty side are left out, and counted.

``split: paper`` takes the rows that the paper's notebooks took: the first 50,000, a fifth of them
for the test, in the way of `datasets`' ``train_test_split`` (the test rows come first in a
permutation of all; equal pairs may part). The notebook that was read, LoRA's, gave it no
seed, so it was drawn from NumPy's unseeded global generator: which 10,000 rows it scored cannot be
known, and if the others did the same, the paper's methods were scored on different rows. Here the
seed is always 0. That the hub's order is that of CLARIN.SI's archive is likely, but not checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paretune.data.finding import Finding
from paretune.data.formats.parallel_corpus import read_parallel_corpus
from paretune.data.formats.row import Row
from paretune.data.sources import hub_datasets
from paretune.data.task import Task, TaskRows
from paretune.errors import DataError
from paretune.study import TaskSpec

PAIRS = 964_433
OF_THE_PAPER = 50_000


def read_parts(spec: TaskSpec, language: str, data_home: Path | None) -> TaskRows:
    """The pairs with two sides; test pairs only in the paper's split."""
    at_hub = TASK.hub_spec(spec)
    findings: tuple[Finding, ...] = ()
    if at_hub is None:
        rows = read_parallel_corpus(str(spec.source), ("sl", "en"), ("sl_seq", "en_seq"))
    else:
        loaded = hub_datasets.load_splits(at_hub)
        rows, findings = loaded.train, loaded.findings
    if len(rows) != PAIRS:
        findings += (_count_key(rows),)
    # The paper took rows as they come, so the first are counted before any is left out.
    candidates = rows[:OF_THE_PAPER] if spec.split == "paper" else rows
    filled = [row for row in candidates if all(_text(row, column) for column in TASK.columns)]
    if not filled:
        raise DataError(
            "no row has a text in sl_seq and en_seq.",
            where=rows[0].where,
            remedy="Name RSDO4 itself as source.",
        )
    if len(filled) < len(candidates):
        findings += (_left_out(candidates),)
    if spec.split == "paper":
        train, test = _split_as_paper(filled)
        return TaskRows(train, test, findings=findings)
    return TaskRows(filled, [], findings=findings)


def _split_as_paper(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    order = np.random.default_rng(0).permutation(len(rows))
    cut = -(-len(rows) // 5)
    return [rows[i] for i in order[cut:]], [rows[i] for i in order[:cut]]


def _text(row: Row, column: str) -> str:
    value = row.values.get(column)
    return value.strip() if isinstance(value, str) else ""


def _count_key(rows: Sequence[Row]) -> Finding:
    what = f"{len(rows)} pairs were found; RSDO4 1.0 has {PAIRS}."
    return Finding("note", "other-size", rows[-1].where, what, "Nothing to do if that is meant.")


def _left_out(rows: Sequence[Row]) -> Finding:
    empty = [row for row in rows if not all(_text(row, column) for column in TASK.columns)]
    what = f"has no text in one language; {len(empty)} such pairs of {len(rows)} are left out."
    return Finding("note", "left-out", empty[0].where, what, "Nothing to do.")


_FROM = "RSDO4 1.0 (Repar and Lebar Bajec, 2021): http://hdl.handle.net/11356/1457"
TASK = Task(
    name="rsdo4",
    title="RSDO4: Slovene to English or English to Slovene",
    kind="translation",
    columns=("sl_seq", "en_seq"),
    metric="bleu",
    languages=("sl", "en"),
    licence=dict.fromkeys(("sl", "en"), "CC BY-SA 4.0 (CLARIN.SI 11356/1457)"),
    source=dict.fromkeys(("sl", "en"), _FROM),
    read_rows=read_parts,
    splits=("published", "paper"),
    hub=("cjvt/rsdo4_en_sl", hub_datasets.CONVERTED_REVISION),
)
