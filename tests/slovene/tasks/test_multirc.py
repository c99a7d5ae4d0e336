"""MultiRC: both published forms, quirks on rows made here, counts and equality on the real ones."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.slobench import load, unlabelled, write_rows

from paretune.data.audit import audit
from paretune.errors import DataError, StudyError
from paretune.study import TaskSpec
from paretune.tasks import load_dataset


def row(idx: int, labels: list[list[Any]] | None = None, **extra: Any) -> dict[str, Any]:
    """A passage with two questions of two and three answers, as SuperGLUE publishes them."""
    labels = labels or [[0, 1], [1, 1, 0]]
    number = itertools.count(5 * idx)
    questions = [
        {
            "idx": 2 * idx + q,
            "question": f"Who came {q} to house {idx}?",
            "answers": [
                {"text": f"Guest {a}", "idx": next(number), "label": label}
                for a, label in enumerate(answer_labels)
            ],
        }
        for q, answer_labels in enumerate(labels)
    ]
    return {
        "idx": idx,
        "version": 1.1,
        "passage": {"text": f"House {idx} has guests.", "questions": questions},
        **extra,
    }


def as_objects(published: dict[str, Any]) -> dict[str, Any]:
    """The same row with objects for lists, backwards, and numbers as a spreadsheet writes them."""
    questions = {
        str(q): {
            "question": question["question"],
            "idx": float(question["idx"]) if q else question["idx"],
            "answers": {
                str(a): {**answer, "idx": f"{answer['idx']},0"}
                for a, answer in reversed(list(enumerate(question["answers"])))
            },
        }
        for q, question in reversed(list(enumerate(published["passage"]["questions"])))
    }
    passage = {**published["passage"], "questions": questions}
    return {"version": 1.1, "passage": passage, "idx": published["idx"]}


def write(folder: Path, *parts: list[Any]) -> Path:
    return write_rows(folder, "MultiRC", *parts)


multirc = partial(load, "multirc", language="en")


def test_every_answer_is_an_example(tmp_path: Path) -> None:
    data = multirc(write(tmp_path, [row(0), row(1)], [row(0)], [unlabelled(row(3))]))
    assert (data.kind, data.metric, data.labels) == ("answer_set", "f1a_em", ("false", "true"))
    assert [len(p) for p in (data.train, data.test, data.unlabelled)] == [10, 5, 5]
    first, last = data.train[0], data.train[-1]
    assert first.uid == "train:0/0/0" and last.uid == "train:1/3/9"
    assert first.segments == (("House 0 has guests.", "Who came 0 to house 0? Guest 0"),)
    assert [e.label for e in data.train[:5]] == [0, 1, 1, 1, 0]
    assert [e.question for e in data.train[:5]] == ["0/0", "0/0", "0/1", "0/1", "0/1"]
    assert first.where == "train.jsonl line 1 answer 0/0"
    assert len({e.group for e in data.train}) == 2 and data.clustered
    assert {e.label for e in data.unlabelled} == {None}
    assert data.unlabelled[2].uid == "unlabelled:3/7/17"
    assert data.findings == ()


def test_objects_are_the_same_rows(tmp_path: Path) -> None:
    spellings = [[0.0, "1.0"], ["1,0", True, "0,0"]]
    rows = [row(0), row(1, spellings)]
    plain = multirc(write(tmp_path / "lists", [row(0), row(1)], [row(0)]))
    objects = multirc(write(tmp_path / "objects", [as_objects(r) for r in rows], [row(0)]))
    assert objects.content_hash == plain.content_hash


def test_more_than_ten_entries_of_an_object_keep_their_order(tmp_path: Path) -> None:
    many = row(0, [[0, 1] * 6])
    del many["passage"]["questions"][0]["idx"]
    for answer in many["passage"]["questions"][0]["answers"]:
        del answer["idx"]
    (question,) = many["passage"]["questions"]
    answers = {str(k): answer for k, answer in enumerate(question["answers"])}
    question["answers"] = {k: answers[k] for k in sorted(answers)}
    data = multirc(write(tmp_path, [many, row(1)], [row(0)]))
    assert [e.uid for e in data.train[:12]] == [f"train:0/0/{a}" for a in range(12)]
    assert [e.label for e in data.train[:12]] == [0, 1] * 6


def test_texts_beside_the_passage_are_taken_and_missing_ones_told(tmp_path: Path) -> None:
    first = row(0)
    guests = first["passage"]["questions"][1]["answers"]
    guests[0]["text"] = None
    del guests[1]["text"]
    second = row(1)
    del second["passage"]["questions"][0]["question"]
    first["Passage"] = {"questions": {"1": {"answers": {"1": {"text": "Guest one"}}}}}
    second["Passage"] = {"questions": {"0": {"question": "Who came?"}}}
    data = multirc(write(tmp_path / "train", [first, second], [row(0)]))
    assert [e.uid for e in data.train[:4]] == [f"train:0/{a}" for a in ("0/0", "0/1", "1/3", "1/4")]
    assert data.train[2].segments[0][1] == "Who came 1 to house 0? Guest one"
    assert data.train[4].segments[0][1] == "Who came? Guest 0"
    messages = {f.code: str(f) for f in data.findings}
    assert messages["left-out"] == (
        "train.jsonl line 1 answer 1/2: has no text: left out. "
        "Take SloBench's release, which has it, or add it."
    )
    message = '2 texts were taken from a key beside the passage (train.jsonl line 1 "Passage"'
    assert message in messages["stray-key"]
    with pytest.raises(DataError, match=r"val.jsonl line 1 answer 1/2: has no text"):
        multirc(write(tmp_path / "val", [row(0), row(1)], [first]))


def test_every_broken_passage_is_named_at_once(tmp_path: Path) -> None:
    broken = row(2)
    broken["passage"]["questions"][0]["answers"] = "none"
    broken["passage"]["questions"][1]["answers"][0] = "Guest"
    rows = [{"idx": 0}, {"idx": 1, "passage": {"questions": []}}, broken, row(3, [[0], [2]])]
    with pytest.raises(DataError) as caught:
        multirc(write(tmp_path, rows, [row(0)]))
    message = str(caught.value)
    assert message.startswith("5 faults in the data:")
    for part in (
        "line 1: has no passage with questions.",
        "line 2: has no passage with text.",
        "line 3: question 0 has no answers.",
        "line 3: question 1 has an answer without a text.",
        'line 4 answer 7/16: label "2" is not one of false, true.',
    ):
        assert part in message


def test_repeated_numbers_do_not_join_questions(tmp_path: Path) -> None:
    again = row(0)
    again["passage"]["text"] = "Another house."
    again["passage"]["questions"][1]["idx"] = 0
    data = multirc(write(tmp_path, [row(0), again], [row(0)]))
    assert len({e.question for e in data.train}) == 4 and len({e.group for e in data.train}) == 2
    assert len({e.uid for e in data.train}) == 10
    assert [e.uid for e in data.train[5:8]] == [f"train:0#1/{n}" for n in ("0/0", "0/1", "0#1/2")]
    finding = next(f for f in data.findings if f.code == "repeated-id")
    assert "line 2" in finding.where and "(2 in all)" in finding.what


def test_a_passage_that_is_printed_twice_is_one_group(tmp_path: Path) -> None:
    rows = [row(i) for i in range(12)]
    rows[7]["passage"]["text"] = rows[2]["passage"]["text"].upper()
    data = multirc(write(tmp_path, rows, [row(0)]))
    assert len({example.group for example in data.train}) == 11


def test_a_limit_never_cuts_through_a_question(tmp_path: Path) -> None:
    source = write(tmp_path, [row(0), row(1)], [row(0)])
    assert len(multirc(source, limit={"train": 9}).train) == 7
    assert len(multirc(source, limit={"train": 7}).train) == 7
    assert len(multirc(source, limit={"train": 1}).train) == 1
    assert len(multirc(source, limit={"train": 99}).train) == 10


def test_few_groups_are_told_and_other_metrics_refused(tmp_path: Path) -> None:
    source = write(tmp_path, [row(i) for i in range(4)], [row(i) for i in range(30)])
    small = next(f for f in audit(multirc(source)) if f.code == "small-test")
    assert "test has 150 rows in 30 groups" in small.what and "±0.18" in small.what
    assert multirc(source, metric="accuracy").metric == "accuracy"
    with pytest.raises(StudyError, match=r"metric r2 does not fit task multirc-en.*f1a_em"):
        multirc(source, metric="r2")
    with pytest.raises(StudyError, match="metric f1a_em does not fit task routing"):
        load_dataset(TaskSpec(name="routing", metric="f1a_em"))


def test_every_layout_gives_the_published_answers(shared: Path) -> None:
    zips, folder = (
        multirc(shared / "data" / name, language="sl")
        for name in ("slobench-release", "superglue-sl")
    )
    assert [len(p) for p in (zips.train, zips.test, zips.unlabelled)] == [946, 145, 1672]
    groups = [len({e.group for e in p}) for p in (zips.train, zips.test, zips.unlabelled)]
    assert groups == [15, 3, 31]
    assert [len({e.question for e in p}) for p in (zips.train, zips.test)] == [169, 33]
    assert zips.content_hash == folder.content_hash
    assert [f for f in audit(zips) if f.severity == "error"] == []


def test_clarins_answers_are_those_of_slobench_but_for_five(shared: Path) -> None:
    """Four texts are nowhere in its files, and one date is another; the rest is the same."""
    clarin = multirc(shared / "data" / "superglue-sl-clarin", language="sl")
    official = multirc(shared / "data" / "slobench-release", language="sl")
    assert [len(p) for p in (clarin.train, clarin.test, clarin.unlabelled)] == [942, 145, 1672]

    theirs, ours = (  # blanks differ in some passages
        {e.uid: ("".join(str(e.segments).split()), e.label) for e in (*data.train, *data.test)}
        for data in (clarin, official)
    )
    differing = {uid for uid in ours if ours[uid] != theirs.get(uid)}
    numbers = ("0/19/131", "0/19/132", "0/19/133", "7/82/504", "7/82/508")
    assert differing == {f"train:{number}" for number in numbers}
    codes = [f.code for f in clarin.findings]
    assert codes.count("left-out") == 4 and "stray-key" in codes
