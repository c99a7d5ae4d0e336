"""Edited copies are found in and across parts, with few false alarms."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from paretune.data import audit as audit_module
from paretune.data.audit import audit
from paretune.data.example import Dataset
from paretune.data.finding import Finding
from paretune.data.near_duplicates import find_near_duplicates
from paretune.data.split import OuterDesign
from paretune.objectives.example import Example
from paretune.study import TaskSpec
from paretune.tasks import load_dataset

Edit = Callable[[list[str], int], list[str]]


EDITS: list[Edit] = [
    lambda words, place: [*words[:place], "another", *words[place + 1 :]],
    lambda words, place: [*words[:place], *words[place + 1 :]],
    lambda words, place: [*words[:place], *words[place : place + 2][::-1], *words[place + 2 :]],
    lambda words, place: ["Hello,", *words],
    lambda words, place: [*words, "Thank", "you."],
    lambda words, place: [word.strip(".,!?") for word in words],
]


def plant_copies(rows: tuple[Example, ...], count: int) -> tuple[Example, ...]:
    """Edited copies of some rows, as rows of another part."""
    generator = random.Random(0)  # noqa: S311 (copies of a test, no secret)
    copies = []
    for i, row in enumerate(generator.sample(rows, count)):
        words = row.segments[0][0].split()
        words = EDITS[i % len(EDITS)](words, generator.randrange(len(words)))
        segments = ((" ".join(words), row.segments[0][1]),)
        uid, where = f"copy:{i}", f"copies.csv line {i + 2}"
        copies.append(replace(row, segments=segments, uid=uid, where=where))
    return tuple(copies)


def select_findings(findings: list[Finding], code: str) -> list[Finding]:
    return [finding for finding in findings if finding.code == code]


@pytest.fixture
def complaints() -> Dataset:
    return load_dataset(TaskSpec(name="complaints", language="en"))


def test_twenty_edited_copies_of_train_in_test_are_all_found(complaints: Dataset) -> None:
    copies = plant_copies(complaints.train, 20)
    findings = audit(replace(complaints, test=(*complaints.test, *copies)))
    (leak,) = select_findings(findings, "near-leak")
    assert leak.severity == "warning" and leak.places == tuple(e.where for e in copies)
    assert leak.what.startswith(
        f"20 of {len(complaints.test) + 20} test rows differ little from a row of train: "
        "copies.csv line 2 (train.csv line "
    )
    assert not select_findings(findings, "leak") + select_findings(findings, "near-duplicate")


@pytest.mark.parametrize("design", [OuterDesign(0), OuterDesign(5)], ids=["split", "folds"])
def test_edited_copies_inside_a_file_are_found_unless_one_group_holds_them(
    complaints: Dataset, design: OuterDesign
) -> None:
    originals = tuple(replace(e, group=e.uid) for e in complaints.train)
    copies = plant_copies(originals, 20)
    grouped = replace(complaints, train=(*originals, *copies))
    assert not select_findings(audit(grouped, design=design), "near-duplicate")
    alone = tuple(replace(e, group=None) for e in grouped.train)
    findings = audit(replace(complaints, train=alone), design=design)
    (repeat,) = select_findings(findings, "near-duplicate")
    assert repeat.places == tuple(e.where for e in copies) and "as group" in repeat.remedy


@pytest.mark.parametrize("name", ["complaints", "follows", "paraphrase", "replies", "routing"])
def test_clean_data_raises_no_alarm(name: str) -> None:
    data = load_dataset(TaskSpec(name=name, language="en"))
    assert find_near_duplicates((*data.train, *data.test)) == ()


def test_published_news_raise_one_alarm(shared: Path) -> None:
    parts = {part: str(shared / f"data/sib200/slv_Latn/{part}.tsv") for part in ("train", "test")}
    data = load_dataset(
        TaskSpec(name="sib", kind="classification", text="text", label="category", **parts)
    )
    assert len(find_near_duplicates((*data.train, *data.test))) == 1  # they share a sentence


def test_a_prompt_before_every_text_and_short_answers_are_no_copies() -> None:
    def rows(texts: list[str]) -> tuple[Example, ...]:
        return tuple(
            Example(f"t:{i}", ((text, None),), 0, f"t line {i}") for i, text in enumerate(texts)
        )

    prompt = "Read the following message of a customer and say which department should answer it: "
    texts = load_dataset(TaskSpec(name="routing", language="en")).train[:40]
    prompted = [prompt + e.segments[0][0] for e in texts]
    assert find_near_duplicates(rows(prompted)) == ()
    assert len(find_near_duplicates(rows([*prompted, prompted[3] + " Thanks."]))) == 1
    assert find_near_duplicates(rows(["Yes, please.", "Yes please", "Yes, please!"])) == ()
    assert find_near_duplicates(()) == ()


def test_a_first_text_that_rows_share_makes_no_copies_of_different_questions() -> None:
    def pair(i: int, question: str) -> Example:
        passage = f"A passage of some length on kind {i // 4} of all the animals that there are."
        return Example(f"t:{i}", ((passage, question),), 0, f"t line {i}")

    routing = load_dataset(TaskSpec(name="routing", language="en")).train[:40]
    questions = [e.segments[0][0] for e in routing]
    rows = tuple(pair(i, question) for i, question in enumerate(questions))
    assert find_near_duplicates(rows) == ()
    copy = replace(pair(9, questions[9].replace(".", "!") + " Yes."), uid="t:40")
    assert [twin.uid for _, twin in find_near_duplicates((*rows, copy))] == ["t:9"]


def test_rows_beyond_the_limit_are_told(
    complaints: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "MAX_COMPARED", 100)
    (note,) = select_findings(audit(complaints), "near-duplicate")
    rows = len(complaints.train)
    assert note.severity == "note" and f"the first 100 of {rows} train rows" in note.what
