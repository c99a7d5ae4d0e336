"""RSDO4 (Repar and Lebar Bajec, 2021): Slovene and English, 964,433 pairs, in either direction.

Texts of public institutions and of donors, collected in the project "Slovene in the Digital
Environment", in random order. ``source`` names what was downloaded from CLARIN.SI: TMX, two files
of plain text, or a table with the columns ``sl_seq`` and ``en_seq``
(:func:`paretune.data.parallel.read_pairs`). Without it the rows are read from the hub, which keeps
them as Parquet: no dataset script is run. Pairs with an empty side are left out, and counted.

``split: paper`` takes the rows that the paper's notebooks took: the first 50,000, a fifth of them
as the test part, split as `datasets`' ``train_test_split`` does (the test rows come first in a
permutation of all; equal pairs may end in both parts). The notebook for LoRA gives it no seed, so
the split was drawn from NumPy's unseeded global generator: which 10,000 rows it scored cannot be
known, and if the other notebooks did the same, the paper's methods were scored on different rows.
Here the seed is always 0. That the hub's order is that of CLARIN.SI's archive is likely, but not
checked.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from paretune.data import hub
from paretune.data.finding import Finding
from paretune.data.parallel import read_pairs
from paretune.data.rows import Row
from paretune.data.task import Task, TaskRows
from paretune.errors import DataError
from paretune.study import TaskSpec

NUM_PAIRS = 964_433
PAPER_ROWS = 50_000


def read_parts(spec: TaskSpec, language: str, data_home: Path | None) -> TaskRows:
    """Pairs with both sides; test pairs only in the paper's split."""
    at_hub = TASK.hub_spec(spec)
    if at_hub is None:
        rows, _ = read_pairs(str(spec.source), None, ("sl", "en"), ("sl_seq", "en_seq"))
        findings = []
    else:
        loaded = hub.load_splits(at_hub)
        rows, findings = list(loaded.train), list(loaded.findings)
    if len(rows) != NUM_PAIRS:
        what = f"holds {len(rows)} pairs; RSDO4 1.0 has {NUM_PAIRS}."
        remedy = "Nothing to do if that is meant."
        findings.append(Finding("note", "other-size", rows[-1].where, what, remedy))
    # The paper took the first rows as they come, incomplete pairs included.
    candidates = rows[:PAPER_ROWS] if spec.split == "paper" else rows
    filled = [row for row in candidates if _has_both_sides(row)]
    if not filled:
        raise DataError(
            "no row has a text in sl_seq and en_seq.",
            where=rows[0].where,
            remedy="Name RSDO4 itself as source.",
        )
    if empty := len(candidates) - len(filled):
        first = next(row for row in candidates if not _has_both_sides(row))
        what = f"has no text in one language; {empty} such pairs of {len(candidates)} are left out."
        findings.append(Finding("note", "left-out", first.where, what, "Nothing to do."))
    if spec.split != "paper":
        return TaskRows(filled, [], findings=findings)
    order = np.random.default_rng(0).permutation(len(filled))
    cut = -(-len(filled) // 5)
    train, test = [filled[i] for i in order[cut:]], [filled[i] for i in order[:cut]]
    return TaskRows(train, test, findings=findings)


def _has_both_sides(row: Row) -> bool:
    texts = [row.values.get(column) for column in TASK.columns]
    return all(isinstance(text, str) and text.strip() for text in texts)


_SOURCE = "RSDO4 1.0 (Repar and Lebar Bajec, 2021): http://hdl.handle.net/11356/1457"
TASK = Task(
    name="rsdo4",
    title="RSDO4: Slovene to English or English to Slovene",
    kind="translation",
    columns=("sl_seq", "en_seq"),
    metric="bleu",
    languages=("sl", "en"),
    licence=dict.fromkeys(("sl", "en"), "CC BY-SA 4.0 (CLARIN.SI 11356/1457)"),
    source=dict.fromkeys(("sl", "en"), _SOURCE),
    read_rows=read_parts,
    splits=("published", "paper"),
    hub=("cjvt/rsdo4_en_sl", hub.CONVERTED_REVISION),
)
