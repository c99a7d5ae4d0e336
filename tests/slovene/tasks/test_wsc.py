"""WSC: spans found and marked, rows that do not match told; counts on the real files."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.slobench import load, write_rows

from paretune.errors import DataError

TEXT = "Ana je Maji, ki je zbolela, prinesla juho, ker jo ima rada."


def row(idx: int = 0, label: Any = True, text: str = TEXT, **target: Any) -> dict[str, Any]:
    spans = {"span1_text": "Maji", "span1_index": 2, "span2_text": "jo", "span2_index": 9}
    return {"idx": idx, "text": text, "target": {**spans, **target}, "label": label}


def write(folder: Path, *parts: list[Any]) -> Path:
    return write_rows(folder, "WSC", *parts)


wsc = partial(load, "wsc")


def test_both_spans_are_marked_and_named(tmp_path: Path) -> None:
    source = write(tmp_path, [row(), row(1, "False", span1_text="Ana", span1_index=0)], [row()])
    data = wsc(source)
    assert (data.kind, data.metric, data.labels) == ("span_pair", "accuracy", ("false", "true"))
    marked = "Ana je * Maji *, ki je zbolela, prinesla juho, ker # jo # ima rada."
    assert data.train[0].segments == ((marked, "jo = Maji"),)
    assert data.train[1].segments[0][1] == "jo = Ana"
    assert [e.label for e in data.train] == [1, 0]
    assert wsc(source, template="marked").train[0].segments == ((marked, None),)


def test_rows_of_one_text_are_one_group(tmp_path: Path) -> None:
    rows = [row(i, bool(i % 2), text=f"{TEXT} {i // 3}", span1_text="Ana") for i in range(30)]
    data = wsc(write(tmp_path, rows, rows[:3]))
    assert data.clustered and len({e.group for e in data.train}) == 10


def test_a_span_that_is_elsewhere_is_found_and_told(tmp_path: Path) -> None:
    rows = [row(span2_index=12), row(span1_text="je", span1_index=5)]
    rows.append(row(span1_text="maji,", span1_index="2"))
    data = wsc(write(tmp_path, rows, [row()]))
    moved, unsure = data.findings[:2]
    assert (moved.severity, moved.code) == ("note", "span-moved")
    assert str(moved) == (
        'train.jsonl line 1: span2 "jo" is not word 12 of the text; it was found in the only '
        'place where it stands ("esla juho, ker jo ima rada."). Nothing to do.'
    )
    assert (unsure.severity, unsure.code) == ("warning", "span-unsure")
    assert "line 2" in unsure.where and "SloBench's release" in unsure.remedy
    assert "ki * je * zbolela" in data.train[1].segments[0][0]
    assert "je * Maji *, ki" in data.train[2].segments[0][0]


def test_every_row_without_its_spans_is_named_at_once(tmp_path: Path) -> None:
    rows = [row(span1_text="Eva"), {**row(1), "target": "Ana"}, row(2), row(3, span2_text=None)]
    with pytest.raises(DataError) as caught:
        wsc(write(tmp_path, rows, [{"idx": 0, "label": True}]))
    lines = str(caught.value).splitlines()
    assert lines[0] == "4 faults in the data:"
    assert "train.jsonl line 1: span1 'Eva' is not in the text (word 2)." in lines[1]
    assert 'train.jsonl line 2: has no "text", or no "target"' in lines[2]
    assert "train.jsonl line 4: span2 None" in lines[3]
    assert "val.jsonl line 1: has no" in lines[4]


def test_english_rows_as_superglue_publishes_them(tmp_path: Path) -> None:
    spans = {"span1_text": "Mark", "span1_index": 0, "span2_text": "He", "span2_index": 13}
    text = "Mark told Pete many lies about himself, which Pete included in his book. He lied."
    rows = [{"text": text, "target": spans, "idx": i, "label": bool(i % 2)} for i in range(2)]
    data = wsc(write(tmp_path, rows, rows), "en")
    assert data.findings == ()
    assert data.train[0].segments[0][0].startswith("* Mark * told Pete")
    assert data.train[0].segments[0][0].endswith("book. # He # lied.")


def test_every_layout_gives_the_published_rows(shared: Path) -> None:
    zips, folder = (wsc(shared / "data" / name) for name in ("slobench-release", "superglue-sl"))
    assert [len(p) for p in (zips.train, zips.test, zips.unlabelled)] == [554, 104, 146]
    assert zips.content_hash == folder.content_hash
    assert len({e.group for e in zips.test}) == 49
    assert zips.findings == ()  # every span is at its index
    assert sum(e.label or 0 for e in zips.test) == 38
    assert [e.uid for e in zips.unlabelled] == [f"unlabelled:{i}" for i in range(146)]


def test_clarins_spans_that_do_not_match_are_told(shared: Path) -> None:
    data = wsc(shared / "data" / "superglue-sl-clarin")
    assert [len(p) for p in (data.train, data.test, data.unlabelled)] == [554, 104, 146]
    counts: Counter[str] = Counter()
    for finding in data.findings:
        counts[finding.code] += len(finding.places) or 1
    assert counts == {"span-moved": 29, "span-unsure": 4}
