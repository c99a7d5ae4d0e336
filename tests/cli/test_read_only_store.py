"""A store on read-only storage can be read by every verb that only reads."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.loaded_modules import list_loaded
from support.stored_records import READING_VERBS
from support.tiny_study import command

from paretune.errors import StoreError
from paretune.store import Store, database
from paretune.study import Study


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def a_copy(finished: Path, folder: Path, state: str) -> Path:
    """A copy of the study and its store, as a clean end or a kill left it."""
    folder.mkdir()
    shutil.copytree(finished / "store", folder / "store")
    shutil.copy(finished / "s.yaml", folder)
    if state == "log":
        # Copied while it is open: what a killed process leaves.
        there = folder / "store" / "study.db"
        db = sqlite3.connect(there, isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE only_in_the_log (x)")
        for ending in ("", "-wal", "-shm"):
            shutil.copy(f"{there}{ending}", folder / f"study.db{ending}")
        db.close()
        for ending in ("", "-wal", "-shm"):
            shutil.move(folder / f"study.db{ending}", f"{there}{ending}")
        assert Path(f"{there}-wal").stat().st_size > 0
    return folder


def mounts() -> bool:
    argv = ["unshare", "-m", "true"]
    return shutil.which("unshare") is not None and not subprocess.run(argv).returncode


@pytest.mark.wide
@pytest.mark.skipif(not mounts(), reason="no mount of our own may be made here (unshare -m)")
@pytest.mark.parametrize("state", ["closed", pytest.param("log", marks=pytest.mark.slow)])
def test_every_reading_verb_reads_a_store_on_a_read_only_mount(
    tmp_path: Path, finished: Path, state: str
) -> None:
    folder = a_copy(finished, tmp_path / "archive", state)
    before = files(folder)
    script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && ! touch "$1/x" && shift'
    # An export takes longest: only in the slow ones.
    left_out = {"export"} if state == "closed" else set()
    verbs = {verb: words for verb, words in READING_VERBS.items() if verb not in left_out}
    commands = [
        [verb, folder / "s.yaml", *words, "--store", folder / "store"]
        for verb, words in verbs.items()
    ]
    prefix = ("unshare", "-m", "bash", "-c", f'{script} && exec "$@"', "bash", str(folder))
    (tmp_path / "out").mkdir()
    codes, _ = list_loaded(*commands, folder=tmp_path / "out", prefix=prefix)
    assert codes == [0] * len(verbs)
    assert (tmp_path / "out" / "exported" / "README.md").is_file() == (state != "closed")
    assert files(folder) == before


def test_where_sqlite_may_not_write_the_store_is_read_and_nothing_in_it_changes(
    capsys: Any, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = a_copy(finished, tmp_path / "archive", "closed")
    before, usual = files(folder), database.connect

    def only_elsewhere(path: Path) -> sqlite3.Connection:
        if path.is_relative_to(folder):
            raise StoreError("cannot be opened.", where=str(path)) from Refused()
        return usual(path)

    monkeypatch.setattr(database, "connect", only_elsewhere)
    study = Study.load(folder / "s.yaml")
    with Store.open(folder / "store") as store:
        assert len(store.load_records(study.study_hash, predictions=True)) == 6
        assert store.verify() == []
        with pytest.raises(StoreError, match="cannot be written"):
            store.set_setting("a", "b")
    code, out, err = command(capsys, "recommend", folder / "s.yaml", "--store", folder / "store")
    assert code == 0 and out, err
    with pytest.raises(StoreError, match="cannot be opened"):
        Store.open(folder / "store", create=True)
    assert files(folder) == before


class Refused(sqlite3.OperationalError):
    """What SQLite says where it may not make its index."""

    sqlite_errorname = "SQLITE_CANTOPEN"
