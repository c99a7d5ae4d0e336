"""A store of made-up records, commands that read it, and changes as others make them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from ruamel.yaml import YAML

from paretune.store import Record, Store, tables
from paretune.store.encoding import encode_predictions
from paretune.study import Run, Study


def study_file(study: Study, path: Path) -> Study:
    """Write it as a file and read it again: its paths are then absolute, as when it ran."""
    with path.open("w", encoding="utf-8") as handle:
        YAML(typ="safe", pure=True).dump(study.canonical_form(), handle)
    return Study.load(path)


def stored(
    study: Study, records: Sequence[Record], folder: Path, waiting: Sequence[tuple[str, Run]] = ()
) -> Store:
    """An open store with the records done or failed, and ``waiting`` runs that are todo."""
    store = Store.open(folder, create=True)
    store.save_study(study.study_hash, study.study, "", study.canonical_form())
    by_id = {record.run_id: record for record in records}
    store.add_runs(study.study_hash, [(name, record.run) for name, record in by_id.items()])
    for _ in by_id:
        claim = store.claim("test", study.study_hash)
        assert claim is not None
        left = by_id[claim.run_id]
        if left.state == "failed":
            store.fail(claim, left.fail_kind or "error", left.message or "", left.measured)
            continue
        blobs = {}
        if left.predictions:
            blobs["predictions"] = encode_predictions(left.predictions)
        store.finish(claim, left.result, left.measured, blobs)
    store.add_runs(study.study_hash, waiting)
    return store


def tamper(folder: Path, statement: str, *values: object) -> None:
    """Change rows as another program would: past the triggers that guard what is done."""
    db = sqlite3.connect(folder / "study.db", isolation_level=None)
    db.execute("PRAGMA foreign_keys = OFF")
    db.execute("PRAGMA ignore_check_constraints = ON")
    for name in tables.TRIGGERS:
        db.execute(f"DROP TRIGGER {name}")
    assert db.execute(statement, values).rowcount > 0
    for statement in tables.TRIGGERS.values():
        db.execute(statement)
    db.close()


READING_VERBS = {
    "report": (),
    "recommend": (),
    "compare": ("lora", "head_only"),
    "watch": ("--once",),
    "verify": (),
    "export": ("--method", "lora", "--output", "exported"),
}
