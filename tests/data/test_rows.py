"""Strict reading: what is accepted, and where each refusal points."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from paretune.data.rows import list_members, read_declared_labels, read_rows
from paretune.errors import DataError


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


ACCEPTED: list[tuple[str, str | bytes, dict[int, dict[str, object]]]] = [
    # Physical lines are counted, through line breaks in a field and empty lines.
    (
        "a.csv",
        'text,label\r\n"two\r\nlines",x\r\n\r\n"said ""hi""",y\r\n',
        {2: {"text": "two\r\nlines", "label": "x"}, 5: {"text": 'said "hi"', "label": "y"}},
    ),
    (
        "a.csv",
        b"\xef\xbb\xbf" + b"a;b\nDober dan, svet;da\n",
        {2: {"a": "Dober dan, svet", "b": "da"}},
    ),
    ("a.csv", "text,a;b\nx;y,1\n", {2: {"text": "x;y", "a;b": "1"}}),
    ("a.csv", "a\tb\nHello, you\tx\n", {2: {"a": "Hello, you", "b": "x"}}),
    ("a.csv", "a|b\nHello, you|x\n", {2: {"a": "Hello, you", "b": "x"}}),
    ("a.csv", "a\nOne; two\nThree\n", {2: {"a": "One; two"}, 3: {"a": "Three"}}),
    # A quote is an ordinary character of a TSV, unless the file is clearly quoted.
    ("a.tsv", 'a\n"Hello," she said.\n"\n', {2: {"a": '"Hello," she said.'}, 3: {"a": '"'}}),
    ("a.tsv", 'a\tb\n"Go home."\tx\n', {2: {"a": '"Go home."', "b": "x"}}),
    ("a.tsv", 'a\tb\n"He said ""no""."\tx\n', {2: {"a": 'He said "no".', "b": "x"}}),
    ("a.tsv", 'a\tb\n"a\tb"\tx\n', {2: {"a": "a\tb", "b": "x"}}),
    ("a.tsv", 'a\tb\n"a\nb"\tx\n', {2: {"a": "a\nb", "b": "x"}}),
    ("a.tsv", '"a"\t"b"\n"Go home."\t"x"\n', {2: {"a": "Go home.", "b": "x"}}),
    # Types stay, and only a line feed ends a line.
    (
        "a.jsonl",
        '{"t": "a\u2028b", "n": 1.0}\r\n\n{"t": null}\n',
        {1: {"t": "a\u2028b", "n": 1.0}, 3: {"t": None}},
    ),
]


@pytest.mark.parametrize(("name", "content", "rows"), ACCEPTED)
def test_rows_have_their_values_and_lines(
    tmp_path: Path, name: str, content: str | bytes, rows: dict[int, dict[str, object]]
) -> None:
    expected = [(values, f"{name} line {line}") for line, values in rows.items()]
    read = read_rows(write(tmp_path, name, content))
    assert [(row.values, row.where) for row in read] == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.csv",
            "text;label\na,x\n",
            r'line 2: has 1 field.*It has "," .*the header ";": use one',
        ),
        ("a.csv", "text,label\na,x\nb;y\n", r'line 3: has 1 field.*It has ";" .*use one through'),
        ("a.csv", "Export 2024\ntext;label\na;x\nb;y\n", "line 1: has one field.*is a title"),
        ("a.csv", "Export 2024\ntext,label\na,x\n", "line 1: has one field.*is a title"),
        ("a.csv", "Export,\ntext,label\na,x\n", "line 1: column 2 has no name.*is a title"),
        ("a.csv", "Export, 2024\nid,text,label\n1,a,x\n", "line 2: has 3 fields.*is a title"),
        ("a.tsv", "text,label\na,x\n", r'line 1: has no tab, but ",". Name the file .csv'),
    ],
)
def test_other_separators_below_and_titles_above_the_header_are_named(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        read_rows(write(tmp_path, name, text))


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv"])
def test_gzip_is_named_with_the_command_that_unpacks_it(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, gzip.compress(b"text,label\na,x\n"))
    with pytest.raises(DataError, match=f"compressed with gzip. Unpack it: gunzip < {name} > "):
        read_rows(path)


@pytest.mark.parametrize(
    ("name", "content", "where", "what"),
    [
        ("a.csv", b"text,label\nok,x\n\xe8aj,y\n", "a.csv line 3", "byte 1 of the line (0xe8)"),
        ("a.csv", b"\xef\xbb\xbft\xe8,label\n", "a.csv line 1", "byte 2 of the line (0xe8)"),
        ("a.csv", "text,label\na,b,c\n", "a.csv line 2", "has 3 fields, the header has 2"),
        ("a.csv", "text,label\na\n", "a.csv line 2", "has 1 field, the header has 2"),
        ("a.tsv", "text\tlabel\na\tb\nc\td\te\n", "a.tsv line 3", "has 3 fields"),
        ("a.csv", "text,,label\na,b,c\n", "a.csv line 1", "column 2 has no name"),
        ("a.csv", "text,text\na,b\n", "a.csv line 1", 'two columns are called "text"'),
        ("a.csv", "text,label\na\0b,c\n", "a.csv line 2", "NUL"),
        ("a.csv", 'text,label\nx,y\n"open,c\nd,e\n', "a.csv line 3", "not well-formed CSV"),
        ("a.csv", 'text,label\n"a"b,c\n', "a.csv line 2", "not well-formed CSV"),
        ("a.csv", "", "a.csv", "is empty"),
        ("a.csv", "text,label\n", "a.csv", "holds no rows"),
        ("a.csv", "text".encode("utf-16"), "a.csv", "UTF-16"),
        ("a.jsonl", '{"a": 1}\n{"a": \n', "a.jsonl line 2", "is not JSON"),
        ("a.jsonl", "[1, 2]\n", "a.jsonl line 1", "holds a list, not an object"),
        ("a.jsonl", '[\n{"a": 1}]\n', "a.jsonl line 1", "is not JSON"),
        ("a.jsonl", '{"a": 1, "a": 2}\n', "a.jsonl line 1", 'the key "a" twice'),
        ("a.jsonl", '{"a": NaN}\n', "a.jsonl line 1", "NaN"),
        ("a.jsonl", '{"a": "\\ud800"}\n', "a.jsonl line 1", "surrogate"),
        ("a.jsonl", '{"a": ' + "[" * 100_000 + "\n", "a.jsonl line 1", "recursion"),
        ("a.jsonl", "\n\n", "a.jsonl", "holds no rows"),
        ("a.parquet", b"PAR1 not really", "a.parquet", "is not readable Parquet"),
    ],
)
def test_refusals_name_line_and_fault(
    tmp_path: Path, name: str, content: str | bytes, where: str, what: str
) -> None:
    with pytest.raises(DataError) as caught:
        read_rows(write(tmp_path, name, content))
    assert caught.value.where == where
    assert what in caught.value.what
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["missing.csv", "book.xlsx", "folder"])
def test_what_is_no_data_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    write(tmp_path, "book.xlsx", b"PK")
    with pytest.raises(DataError):
        read_rows(tmp_path / name)


def test_a_long_field_is_read_and_the_process_keeps_its_limit(tmp_path: Path) -> None:
    import csv

    before = csv.field_size_limit()
    rows = read_rows(write(tmp_path, "a.csv", "text,label\n" + "x" * (before + 10) + ",a\n"))
    assert len(str(rows[0].values["text"])) == before + 10
    assert csv.field_size_limit() == before


def parquet(path: Path, columns: dict[str, list[object]], names: list[str] | None = None) -> Path:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table(columns)
    if names is not None:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": info})
    pyarrow.parquet.write_table(table, path)
    return path


def test_parquet_rows_count_from_one_and_have_declared_labels(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "a.parquet", {"text": ["x", "y", "z"], "label": [1, -1, 2]}, ["no", "yes"]
    )
    assert [(r.values, r.where) for r in read_rows(path)] == [
        ({"text": "x", "label": "yes"}, "a.parquet row 1"),
        ({"text": "y", "label": None}, "a.parquet row 2"),
        ({"text": "z", "label": 2}, "a.parquet row 3"),
    ]
    assert read_declared_labels(path, "label") == ("no", "yes")
    assert read_declared_labels(path, "text") is None
    plain = parquet(tmp_path / "b.parquet", {"label": [1]})
    assert read_declared_labels(plain, "label") is None


def zipped(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_a_zip_member_is_read_and_litter_is_not_seen(tmp_path: Path) -> None:
    files = {"a.csv": "t,l\nx,y\n", "__MACOSX/._a.csv": "junk", "b.jsonl": '{"t": 1}\n'}
    path = zipped(tmp_path / "data.zip", files)
    assert list_members(path) == ["a.csv", "b.jsonl"]
    assert read_rows(f"{path}::a.csv")[0].where == "data.zip::a.csv line 2"
    with pytest.raises(DataError, match=r"It holds a\.csv, b\.jsonl"):
        read_rows(path)
    with pytest.raises(DataError, match=r'no single member "c\.csv"'):
        read_rows(f"{path}::c.csv")


def test_a_path_that_climbs_out_of_a_zip_writes_nothing(tmp_path: Path) -> None:
    path = zipped(tmp_path / "data.zip", {"../evil.csv": "t,l\nx,y\n"})
    assert read_rows(f"{path}::../evil.csv")[0].values == {"t": "x", "l": "y"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.zip"]
    assert not (tmp_path.parent / "evil.csv").exists()


def test_a_zip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paretune.data.rows.MAX_MEMBER_BYTES", 1 << 16)
    path = zipped(tmp_path / "data.zip", {"a.csv": "t\n" + "0" * (1 << 20)})
    assert path.stat().st_size < 1 << 13
    with pytest.raises(DataError, match="unpacks to more than"):
        read_rows(f"{path}::a.csv")


def test_a_damaged_zip_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "data.zip", {"a.csv": "t,l\n" + "x,y\n" * 1000})
    data = bytearray(path.read_bytes())
    data[40:50] = b"\xff" * 10
    path.write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        read_rows(f"{path}::a.csv")
    path.write_bytes(b"no zip at all")
    with pytest.raises(DataError, match="not a readable zip"):
        read_rows(f"{path}::a.csv")


def test_a_zip_with_one_data_file_needs_no_member(tmp_path: Path) -> None:
    path = zipped(tmp_path / "data.zip", {"a.csv": "t,l\nx,y\n", "__MACOSX/._a.csv": "junk"})
    assert read_rows(path)[0].values == {"t": "x", "l": "y"}


def test_gigabytes_that_are_no_text_are_not_read_to_their_end(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("wb") as file:
        file.write("besedilo,oznaka\nčaša,".encode())
        file.truncate(1 << 30)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="line 2: holds a NUL byte"):
            read_rows(tmp_path / "a.csv")
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1 << 24
