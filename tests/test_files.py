"""Files appear whole or not at all; names of files stay in their folder and apart."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.hostile_names import HOSTILE_NAMES

from paretune.files import (
    create_folder,
    expand_home,
    make_file_name,
    part_path,
    replace_file,
    write_atomically,
)


def test_a_file_is_written_with_its_folder_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    write_atomically(path, "č\n")
    write_atomically(path, b"bytes")
    assert path.read_bytes() == b"bytes"
    assert list(path.parent.iterdir()) == [path]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", b"")
        with create_folder(tmp_path / "folder") as part:
            (part / "inside").write_bytes(b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


def test_after_an_error_the_old_file_stays_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replace_file(path) as part:
        part.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_process_killed_before_the_rename_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from paretune.files import write_atomically\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(Path(sys.argv[1]), b'new' * 10_000)"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(path)])
    assert ended.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(list(tmp_path.glob(".*.part"))) == 1
    mine, old, foreign = (part_path(tmp_path / name) for name in ("mine", "old", "foreign"))
    old = old.with_name(old.name.replace(old.name.split(".")[2][:8], "0123abcd"))
    foreign = tmp_path / ".somebody.else.part"
    for part in (mine, old, foreign):
        part.mkdir()
    os.utime(old, (0, 0))
    write_atomically(tmp_path / "other", b"")
    assert set(tmp_path.iterdir()) == {path, tmp_path / "other", mine, foreign}


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with pytest.raises(ZeroDivisionError), create_folder(path) as part:
        (part / "inside").write_text("half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    path.mkdir()  # an empty one may be there
    with create_folder(path) as part:
        (part / "inside").write_text("whole")
        assert not (path / "inside").exists()
    assert (path / "inside").read_text() == "whole"


def test_a_folder_that_holds_something_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "mine").touch()
    with pytest.raises(OSError, match="not empty"), create_folder(path) as part:
        (part / "other").touch()
    assert [p.name for p in tmp_path.rglob("*")] == ["folder", "mine"]


def test_plain_names_stay_as_they_are() -> None:
    assert make_file_name("topics", "tiny", "lora") == "topics-tiny-lora"
    assert make_file_name("okrožja.v2_č") == "okrožja.v2_č"


def test_a_colon_within_a_name_needs_no_hash() -> None:
    assert make_file_name("words", "tiny", "peft:vera") == "words-tiny-peft+vera"
    for other in ("peft-vera", "peft+vera", "peft::vera", "peft:vera:", ":peft:vera", "peft: vera"):
        assert make_file_name(other) != make_file_name("peft:vera")
        assert make_file_name(other) == other or re.search("-[0-9a-f]{8}$", make_file_name(other))


def test_any_name_becomes_one_file_in_its_folder(tmp_path: Path) -> None:
    for parts in (names for n in HOSTILE_NAMES for names in ((n,), ("task", "model", n), (n, n))):
        file_name = make_file_name(*parts)
        path = tmp_path / f"{file_name}-front.parquet"
        path.write_text("")  # the file system takes it
        assert path.resolve().parent == tmp_path.resolve(), parts
        assert Path(file_name).name == file_name
        assert not file_name.startswith((".", "-", "~")) and file_name.isprintable()
        assert file_name.partition(".")[0].upper() not in ("CON", "NUL", "COM1")


def test_two_names_never_become_one_file() -> None:
    file_names = [make_file_name(name) for name in HOSTILE_NAMES]
    assert len(set(file_names)) == len(set(HOSTILE_NAMES)) == 50
    assert make_file_name("a:b") != make_file_name("a b") != make_file_name("a/b")
    assert make_file_name("x" * 300) != make_file_name("x" * 301)


def test_the_home_of_nobody_is_nowhere() -> None:
    assert expand_home("~nosuchuser/x") == Path("~nosuchuser/x")
    assert expand_home("~/x") == Path.home() / "x"
