"""A stored full study as one small file: its records and answers, without weights.

``bench/calibration/grid.tar.xz`` is the grid of ``bench/grid.yaml`` without RTE, whose rows are not
ours to give. It is what ``race.py pack STORE FILE --task routing-en ...`` wrote.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paretune.store import Store
from paretune.store.record import Record
from paretune.study import Study

PACKED = Path(__file__).parent / "calibration" / "grid.tar.xz"
PACKED_TASKS = ("routing-en", "paraphrase-en", "follows-en")
BLOBS = ("predictions", "weights")


def select_tasks(study: Study, names: Sequence[str]) -> Study:
    """The study with some of its tasks; with all where none is named.

    Raises:
        SystemExit: it has no such task.
    """
    known = {task.key: task for task in study.tasks}
    for name in names:
        if name not in known:
            raise SystemExit(f"{study.study} has no task {name}; it has {', '.join(known)}.")
    chosen = tuple(known[name] for name in names) or study.tasks
    return study.model_copy(update={"tasks": chosen})


def pack_records(study: Study, records: Sequence[Record], store: Path, file: Path) -> None:
    """Write a store of these records alone, as those of one study, into a file."""
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "store"
        with Store.open(store) as source, Store.open(own, create=True) as target:
            target.set_settings(
                {f"precision/{key}": v for key, v in source.get_settings("precision/").items()}
            )
            _copy_records(study, records, source, target)
        with tarfile.open(file, "w:xz", preset=9) as archive:
            for path in sorted(own.rglob("*")):
                if path.is_file() and (path.name == "study.db" or "blobs" in path.parts):
                    archive.add(path, path.relative_to(own), filter=_without_owner)


def _copy_records(study: Study, records: Sequence[Record], source: Store, target: Store) -> None:
    by_id = {record.run_id: record for record in records}
    target.save_study(study.study_hash, study.study, "", study.canonical_form())
    target.add_runs(study.study_hash, [(own.run_id, own.run) for own in by_id.values()])
    while (claim := target.claim("pack", study.study_hash)) is not None:
        record = by_id[claim.run_id]
        hashes: Mapping[str, Any] = {k: v for k, v in record.result.items() if k in BLOBS}
        result = {k: v for k, v in record.result.items() if k not in BLOBS}
        blobs = {name: source.read_blob(sha256) for name, sha256 in hashes.items()}
        target.finish(claim, result, record.measured, blobs)


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


@contextmanager
def open_packed(store: Path) -> Iterator[Path]:
    """The folder of a store; of a packed one, unpacked until the end."""
    if store.is_dir():
        yield store
        return
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(store) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)
