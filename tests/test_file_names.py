"""Names of files made of any names: one name, in its folder, and never that of another."""

from __future__ import annotations

import re
from pathlib import Path

from support.hostile_names import HOSTILE_NAMES

from paretune.file_names import expand_home, make_file_name


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
