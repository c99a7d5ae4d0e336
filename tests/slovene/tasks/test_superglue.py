"""The four SuperGLUE tasks: quirks on files made here, counts and equality on the real ones."""

from __future__ import annotations

import shutil
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from support.slobench import load, write_rows

from paretune.data.audit import audit
from paretune.errors import DataError, StudyError
from paretune.objectives.example import Example
from paretune.study import TaskSpec
from paretune.tasks import load_dataset

COUNTS = {"boolq": (92, 18, 30), "cb": (250, 56, 250), "copa": (400, 100, 500)}
COUNTS |= {"rte": (232, 29, 29)}


def count_rows(examples: tuple[Example, ...]) -> Counter[object]:
    return Counter((e.segments, e.label) for e in examples)


@pytest.mark.parametrize("name", COUNTS)
def test_every_layout_gives_the_published_rows(name: str, shared: Path, tmp_path: Path) -> None:
    zips = load(name, shared / "data" / "slobench-release")
    for part in ("qa_train", "qa_validation", "qa_test"):
        with zipfile.ZipFile(shared / "data" / "slobench-release" / f"{part}.zip") as archive:
            archive.extractall(tmp_path / part)
    unpacked = load(name, tmp_path)
    folder = load(name, shared / "data" / "superglue-sl")
    for data in (zips, unpacked, folder):
        assert (len(data.train), len(data.test), len(data.unlabelled)) == COUNTS[name]
        assert {e.label for e in data.unlabelled} == {None}
        assert data.content_hash == zips.content_hash
    assert [f for f in audit(zips) if f.severity == "error"] == []


@pytest.mark.parametrize("name", ["boolq", "cb", "rte"])
def test_clarins_rows_are_the_same(name: str, shared: Path) -> None:
    clarin = load(name, shared / "data" / "superglue-sl-clarin")
    assert clarin.content_hash == load(name, shared / "data" / "slobench-release").content_hash


def test_clarins_copa_is_told_apart(shared: Path) -> None:
    """CLARIN repeats three ids of train, and has a train row in place of one of val."""
    clarin = load("copa", shared / "data" / "superglue-sl-clarin")
    official = load("copa", shared / "data" / "slobench-release")
    assert tuple(map(len, (clarin.train, clarin.test, clarin.unlabelled))) == COUNTS["copa"]
    assert count_rows(clarin.train) == count_rows(official.train)
    assert len({e.uid for e in clarin.train}) == 400
    assert sum((count_rows(clarin.test) - count_rows(official.test)).values()) == 1
    findings = {f.code: f for f in audit(clarin)}
    assert "val.jsonl line 100" in findings["leak"].where
    assert "train.jsonl line 196" in findings["leak"].what
    assert "leak" not in {f.code for f in audit(official)}


@pytest.mark.parametrize(
    ("name", "counts"),
    [("boolq", (9427, 3270)), ("cb", (250, 56)), ("copa", (400, 100)), ("rte", (2490, 277))],
)
def test_english_in_the_same_files(name: str, counts: tuple[int, int], shared: Path) -> None:
    data = load(name, shared / "data" / "superglue-en", "en")
    assert (len(data.train), len(data.test)) == counts
    assert data.language == "en"


def test_labels_templates_and_metrics_are_the_fields(shared: Path) -> None:
    source = shared / "data" / "superglue-sl"
    cb = load("cb", source)
    assert cb.metric == "accuracy_f1"
    counts = {"entailment": 115, "contradiction": 119, "neutral": 16}
    assert Counter(cb.labels[e.label or 0] for e in cb.train) == counts
    boolq = load("boolq", source)
    assert sum(boolq.labels[e.label or 0] == "true" for e in boolq.test) == 14
    question, passage = boolq.train[0].segments[0]
    assert question == "Ali v Iranu in Afganistanu govorijo isti jezik?"
    assert str(passage).startswith("Perzijski jezik")
    paper = load("boolq", source, template="paper")
    assert paper.train[0].segments == ((f"passage : {passage} question : {question} ", None),)
    assert paper.content_hash != boolq.content_hash


def test_copa_asks_in_its_own_language(shared: Path) -> None:
    copa = load("copa", shared / "data" / "superglue-sl")
    assert copa.train[0].segments == (
        ("Moje telo je metalo senco na travo. Kaj je bil vzrok za to?", "Sonce je vzhajalo."),
        ("Moje telo je metalo senco na travo. Kaj je bil vzrok za to?", "Trava je bila pokošena."),
    )
    paper = load("copa", shared / "data" / "superglue-sl", template="paper")
    first = ("Moje telo je metalo senco na travo.", "cause Sonce je vzhajalo.")
    assert paper.train[0].segments[0] == first


def test_mixed_label_types_and_stray_keys_are_read(tmp_path: Path) -> None:
    spellings: list[object] = [True, "true", "True", 1, "1", 1.0, "1.0", False, "False", 0, "0"]
    rows = [
        {"idx": i % 9, "passage": f"P{i}.", "question": "Q?", "label": v, "stray": {"a": 1}}
        for i, v in enumerate(spellings)
    ]
    data = load("boolq", write_rows(tmp_path, "BoolQ", rows, rows[:2]))
    assert [e.label for e in data.train] == [1] * 7 + [0] * 4
    assert [e.uid for e in data.train][8:] == ["train:8", "train:0#9", "train:1#10"]
    assert data.unlabelled == ()


def test_every_broken_row_is_named_at_once(tmp_path: Path) -> None:
    good = {"idx": 0, "premise": "P.", "hypothesis": "H.", "label": "neutral"}
    rows = [good, {**good, "label": "maybe"}, {**good, "premise": None}, {**good, "label": ""}]
    write_rows(tmp_path, "CB", rows, [good, {**good, "hypothesis": ["H."]}])
    with pytest.raises(DataError) as caught:
        load("cb", tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0] == "4 faults in the data:"
    assert lines[1].strip() == (
        'train.jsonl line 2: label "maybe" is not one of entailment, contradiction, neutral. '
        "Fix the row, or add it to labels."
    )
    assert "train.jsonl line 3: has no text" in lines[2]
    assert "train.jsonl line 4: has no label" in lines[3]
    assert "val.jsonl line 2: holds a list" in lines[4]


def test_fetched_zips_are_found_in_the_data_home(shared: Path, tmp_path: Path) -> None:
    spec = TaskSpec(name="rte", language="sl")
    with pytest.raises(DataError, match="paretune data fetch superglue-sl"):
        load_dataset(spec, tmp_path)
    shutil.copytree(shared / "data" / "slobench-release", tmp_path / "superglue-sl")
    assert len(load_dataset(spec, tmp_path).train) == 232


def test_missing_sources_and_unknown_names_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Give the task source: FOLDER"):
        load_dataset(TaskSpec(name="rte", language="en"), tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        load("rte", tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"Looked for qa_train\.zip"):
        load("rte", tmp_path)
    with pytest.raises(StudyError, match="exists in sl, en"):
        load_dataset(TaskSpec(name="rte", language="de"))
    with pytest.raises(StudyError, match="Did you mean boolq"):
        load_dataset(TaskSpec(name="boolqa"))
