"""Instructions of one's own: from a file to examples, the audit, and a guessed study file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from paretune.data.audit import audit
from paretune.errors import DataError, StudyError
from paretune.study import TaskSpec
from paretune.tasks import load_dataset
from paretune.tasks.infer import infer_task


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text(text + "\n", encoding="utf-8")
    return str(path)


def plain_rows(count: int) -> list[dict[str, Any]]:
    return [
        {"prompt": f"What is {i} plus 1?", "completion": f" It is {i + 1}."} for i in range(count)
    ]


def task(train: str, **keys: Any) -> TaskSpec:
    return TaskSpec(name="tiny", kind="instruction", train=train, **keys)


def test_prompts_and_completions_become_examples_and_a_fifth_is_held_out(tmp_path: Path) -> None:
    dataset = load_dataset(task(write(tmp_path / "train.jsonl", plain_rows(40))))
    assert (len(dataset.train), len(dataset.test)) == (32, 8)
    (example,) = [e for e in (*dataset.train, *dataset.test) if e.uid == "train:0"]
    assert example.segments == (("What is 0 plus 1?", None),) and example.target == " It is 1."
    assert example.label is None and not example.messages
    assert [f.code for f in dataset.findings] == ["test-held-out"]
    assert dataset.metric == "chrf"


def test_columns_of_other_names_are_named(tmp_path: Path) -> None:
    rows = [{"query": r["prompt"], "response": r["completion"]} for r in plain_rows(20)]
    train = write(tmp_path / "train.jsonl", rows)
    dataset = load_dataset(task(train, text="query", label="response"))
    assert {e.target for e in dataset.train} < {row["completion"] for row in plain_rows(20)}
    with pytest.raises(DataError, match=r"no columns of a known form.*messages.*query, response"):
        load_dataset(task(train))
    with pytest.raises(StudyError, match="names one of text and label"):
        load_dataset(task(train, text="query"))


def test_conversations_keep_their_messages_and_change_what_the_data_are(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "How are you?"},
        {"role": "assistant", "content": "Well"},
    ]
    rows = [
        {"messages": [*messages[:-1], {"role": "assistant", "content": f"W{i}"}]} for i in range(6)
    ]
    train = write(tmp_path / "train.jsonl", rows)
    test = write(tmp_path / "test.jsonl", rows[:2])
    dataset = load_dataset(task(train, test=test, test_shifted=test))
    assert dataset.train[0].messages[-1] == ("user", "How are you?")
    assert len(dataset.shifted) == 2
    note = next(f for f in dataset.findings if f.code == "last-answer")
    assert "6 of 6 train rows" in note.what and "not learnt" in note.what
    (bare,) = {d.content_hash for d in [dataset]}
    one = [{"messages": messages[:1] + messages[-1:]}] * 6
    other = load_dataset(task(write(tmp_path / "train.jsonl", one), test=test))
    assert other.content_hash != bare


def test_the_audit_finds_duplicates_leaks_and_repeated_prompts(tmp_path: Path) -> None:
    rows = plain_rows(30)
    rows += [rows[0], {"prompt": rows[1]["prompt"], "completion": "I do not know."}]
    rows += [{"prompt": "Say this.", "completion": "say this."}]
    test = [*plain_rows(40)[30:], rows[2], {"prompt": rows[3]["prompt"], "completion": "No idea."}]
    dataset = load_dataset(
        task(write(tmp_path / "train.jsonl", rows), test=write(tmp_path / "test.jsonl", test))
    )
    codes = {finding.code: finding.what for finding in audit(dataset)}
    assert {"duplicate", "leak", "leaked-source", "copied-text"} <= set(codes)
    assert "prompts are in train too, with another completion" in codes["leaked-source"]


@pytest.mark.parametrize(
    ("row", "title"),
    [
        ({"prompt": "What is it?", "completion": "It is a cat."}, "TRL"),
        ({"messages": [{"role": r, "content": "Hello"} for r in ("user", "assistant")]}, "TRL"),
        ({"conversations": [{"from": r, "value": "Hello"} for r in ("human", "gpt")]}, "ShareGPT"),
        ({"instruction": "Add.", "input": "", "output": "I cannot add that."}, "Alpaca"),
    ],
)
def test_a_file_of_instructions_is_recognised(
    tmp_path: Path, row: dict[str, Any], title: str
) -> None:
    rows = [{**row, "id": i} for i in range(12)]
    write(tmp_path / "test.jsonl", rows)
    inferred = infer_task(write(tmp_path / "train.jsonl", rows))
    assert inferred.task["kind"] == "instruction" and title in inferred.reasons["kind"]
    assert str(inferred.task["test"]).endswith("test.jsonl") and "label" not in inferred.task


def test_labels_under_the_name_of_an_output_are_no_instructions(tmp_path: Path) -> None:
    rows = [{"instruction": f"Sentence number {i}.", "output": "ab"[i % 2]} for i in range(20)]
    assert infer_task(write(tmp_path / "train.jsonl", rows)).task["kind"] == "classification"
