"""Parallel plain text and TMX, hostile ones too."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from paretune.data.parallel import read_line_pairs, read_units, resolve_pair_files
from paretune.data.rows import Row
from paretune.data.split import sample_held_out
from paretune.errors import DataError
from paretune.study import TaskSpec
from paretune.tasks import load_dataset

LANGUAGES = ("sl", "en")
PAIRS = [
    ("Dober dan.", "Good day."),
    ("Češnja in žaba.", "A cherry and a frog."),
    ("Šola.", "School."),
]


def put(path: Path, text: str | bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def two(folder: Path, name: str = "corpus", pairs: list[tuple[str, str]] = PAIRS) -> str:
    for place, language in enumerate(LANGUAGES):
        put(folder / f"{name}.{language}", "".join(f"{pair[place]}\n" for pair in pairs))
    return str(folder / name)


def zipped(path: Path, files: dict[str, str]) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return str(path)


def texts(rows: list[Row]) -> list[tuple[object, ...]]:
    return [tuple(row.values.values()) for row in rows]


def sides(place: int) -> str:
    return "".join(f"{pair[place]}\n" for pair in PAIRS)


def test_line_n_belongs_to_line_n(tmp_path: Path) -> None:
    stem = two(tmp_path)
    rows = read_line_pairs(f"{stem}.sl", f"{stem}.en", ("a", "b"))
    assert texts(rows) == PAIRS
    assert rows[1] == Row({"a": PAIRS[1][0], "b": PAIRS[1][1]}, "corpus.sl line 2")


def test_a_mark_line_ends_of_windows_and_no_end_at_all_change_nothing(tmp_path: Path) -> None:
    source = put(tmp_path / "a", b"\xef\xbb\xbf" + "č\r\nš\r\n".encode())
    target = put(tmp_path / "b", "one\ntwo")
    assert texts(read_line_pairs(source, target, LANGUAGES)) == [("č", "one"), ("š", "two")]


@pytest.mark.parametrize("inside", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"])
def test_only_line_ends_end_a_line(tmp_path: Path, inside: str) -> None:
    source = put(tmp_path / "a", f"one{inside}still one\ntwo\n")
    target = put(tmp_path / "b", "ena\ndva\n")
    assert texts(read_line_pairs(source, target, LANGUAGES)) == [
        (f"one{inside}still one", "ena"),
        ("two", "dva"),
    ]


def test_unequal_files_say_both_counts(tmp_path: Path) -> None:
    source, target = put(tmp_path / "a", "1\n2\n3\n"), put(tmp_path / "b", "1\n2\n")
    with pytest.raises(DataError, match=r"a: has 3 lines, b has 2"):
        read_line_pairs(source, target, LANGUAGES)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"fine\n\xe8rka\n", r"b line 2: byte 1 of the line \(0xe8\) is not UTF-8"),
        (b"fine\nnot\0fine\n", "b line 2: holds a NUL byte"),
        ("fine\nfine\n".encode("utf-16"), "b: is UTF-16"),
        (b"", "b: is empty"),
    ],
)
def test_what_is_no_text_names_its_file_and_line(tmp_path: Path, data: bytes, message: str) -> None:
    source, target = put(tmp_path / "a", "1\n2\n"), put(tmp_path / "b", data)
    with pytest.raises(DataError, match=message):
        read_line_pairs(source, target, LANGUAGES)


def test_which_files_a_study_means(tmp_path: Path) -> None:
    stem = two(tmp_path)
    assert resolve_pair_files(stem, None, LANGUAGES) == (f"{stem}.sl", f"{stem}.en")
    assert resolve_pair_files("a.txt", "b.txt", LANGUAGES) == ("a.txt", "b.txt")
    assert resolve_pair_files("some.tsv", None, LANGUAGES) is None
    assert resolve_pair_files("x.zip::some.jsonl", None, LANGUAGES) is None
    sides = "x.zip::RSDO4.en-sl.sl", "x.zip::RSDO4.en-sl.en"
    assert resolve_pair_files("x.zip::RSDO4.en-sl", None, LANGUAGES) == sides
    with pytest.raises(DataError, match="is a table, which holds both languages"):
        resolve_pair_files("some.tsv", "b.txt", LANGUAGES)
    with pytest.raises(DataError, match=r"there are no missing\.sl and missing\.en"):
        resolve_pair_files(str(tmp_path / "missing"), None, LANGUAGES)


def test_a_zip_of_opus_needs_no_member(tmp_path: Path) -> None:
    files = {"README": "x", "X.en-sl.xml": "<x/>", "X.en-sl.sl": sides(0), "X.en-sl.en": sides(1)}
    pair_files = resolve_pair_files(zipped(tmp_path / "x.zip", files), None, LANGUAGES)
    assert pair_files is not None and texts(read_line_pairs(*pair_files, LANGUAGES)) == PAIRS
    several = {f"{name}.{language}": "x\n" for name in "ab" for language in LANGUAGES}
    with pytest.raises(
        DataError,
        match=r"several pairs .* It holds a.en, a.sl, b.en, b.sl: name one as y\.zip::NAME",
    ):
        resolve_pair_files(zipped(tmp_path / "y.zip", several), None, LANGUAGES)
    with pytest.raises(DataError, match="no pair of files"):
        resolve_pair_files(zipped(tmp_path / "z.zip", {"a.sl": "x"}), None, LANGUAGES)
    table = zipped(tmp_path / "t.zip", {"a.tsv": "sl\ten\nx\ty\n", "README": "x"})
    assert resolve_pair_files(table, None, LANGUAGES) is None


TMX = """<?xml version="1.0" encoding="UTF-8"?>
<tmx version="1.4"><header/><body>
<tu><tuv xml:lang="sl-SI"><seg>Pritisnite <bpt i="1">&lt;b&gt;</bpt>Esc<ept i="1">&lt;/b&gt;</ept>
 &amp; čakajte.</seg></tuv><tuv xml:lang="EN"><seg>Press <hi>Esc</hi> &amp; wait.</seg></tuv></tu>
<tu><tuv xml:lang="sl"><seg>Samo tu.</seg></tuv></tu>
<tu><tuv xml:lang="de"><seg>Hallo</seg></tuv><tuv xml:lang="en"><seg>Hello</seg></tuv>
<tuv xml:lang="slv"><seg>Živjo</seg></tuv></tu>
</body></tmx>"""


def test_tmx(tmp_path: Path) -> None:
    rows = read_units(put(tmp_path / "a.tmx", TMX), LANGUAGES, ("a", "b"))
    assert texts(rows) == [("Pritisnite Esc & čakajte.", "Press Esc & wait."), ("Živjo", "Hello")]
    assert [row.where for row in rows] == ["a.tmx unit 1", "a.tmx unit 3"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TMX[:-20], "is not well-formed TMX"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><tmx><tu/></tmx>', "defines entities"),
        (TMX.replace("sl", "hr"), "no unit in sl and en. Its languages are de, en, hr"),
    ],
)
def test_hostile_tmx(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_units(put(tmp_path / "a.tmx", text), LANGUAGES, LANGUAGES)


def test_equal_sources_are_held_out_together(tmp_path: Path) -> None:
    pairs = [(f"Vir {i % 40}", f"Target {i}") for i in range(100)]
    stem = two(tmp_path, pairs=pairs)
    spec = TaskSpec(name="t", kind="translation", source_lang="sl", target_lang="en", train=stem)
    data = load_dataset(spec)
    train, test = ({e.segments[0][0] for e in part} for part in (data.train, data.test))
    assert len(data.test) == 20 and not train & test
    assert load_dataset(spec).test == data.test
    examples = [*data.train, *data.test]
    assert sample_held_out(examples, 20, 1) != sample_held_out(examples, 20, 2)
    tens = [
        replace(e, segments=((str(i), None),), group=str(i // 10)) for i, e in enumerate(examples)
    ]
    assert {len(sample_held_out(tens, count, 0)) for count in (10, 15, 19)} == {10}
    same = (
        load_dataset(spec.model_copy(update={"train": two(tmp_path, "more", pairs * 2)})).train[:1]
        * 9
    )
    other = next(e for e in examples if e.segments != same[0].segments)
    assert sample_held_out([*same, other], 0, 0) == {9}
    with pytest.raises(DataError, match="no test rows can be taken from 9 training rows in 1 gr"):
        sample_held_out(same, 2, 0)
