"""Kinds of data without one label a row are named, and what resembles them is not."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from paretune.errors import DataError
from paretune.study import Study, TaskSpec
from paretune.tasks import load_dataset
from paretune.tasks.infer import NamedColumns, infer_task
from paretune.verbs.new import draft_study

Rows = list[dict[str, Any]]
ROWS = range(24)
SENTENCE = "Janez went to the market on day {}."
PASSAGE = "On day {} a market was held beside the river, and many people came."


def write(path: Path, rows: Rows) -> Path:
    """The rows in the format of the path's ending; a CSV holds lists as pandas writes them."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    return path


def rows_of(**columns: Any) -> Rows:
    """Rows from a function of the row's number for each column."""
    return [{name: value(i) for name, value in columns.items()} for i in ROWS]


def say(text: str) -> Any:
    return text.format


TOPICS = (["news"], ["sport"], ["news", "sport"], ["sport", "travel"], ["travel", "news"])
VALUES: dict[str, Callable[[int], Any]] = {
    "sentence": say(SENTENCE),
    "passage": say(PASSAGE),
    "translation": say("Na dan {} je bil."),
    "short": say("Say {}."),
    "address": say("https://example.org/{}.jpg"),
    "source file": say("src/{}.py"),
    "sound": say("clips/common_{}.mp3"),
    "picture": lambda i: {"path": f"{i}.png", "bytes": None},
    "pixels": lambda i: [[i, 0], [0, i]],
    "number": lambda i: i,
    "share": lambda i: i / 30,
    "decimals": lambda i: f"{i // 10},{i % 10}" if i % 10 else i // 10,
    "stars": lambda i: 1 + i % 5,
    "flag": lambda i: i % 2,
    "flag of two": lambda i: i // 2 % 2,
    "flag of four": lambda i: i // 4 % 2,
    "true": lambda i: True,
    "sometimes": lambda i: i % 3 == 0,
    "letter": lambda i: "ab"[i % 2],
    "town": lambda i: ("Ljubljana, Slovenia", "Maribor, Slovenia", "Graz, Austria")[i % 3],
    "polite": lambda i: ("Yes, please", "No, thanks", "Later")[i % 3],
    "topics": lambda i: TOPICS[i % 5],
    "topics|": lambda i: "|".join(TOPICS[i % 5]),
    "topics,": lambda i: ", ".join(TOPICS[i % 5]),
    "word": lambda i: ("Janez", "Novak", "came", ".")[i % 4],
    "tag": lambda i: ("B-PER", "I-PER", "O", "O")[i % 4],
    "spans": lambda i: [{"start": 0, "end": 5, "label": "PER"}] if i % 2 else [],
    "answers": lambda i: {"text": ["a market"], "answer_start": [10]},
    "inside": say("On day {}"),
    # Of row 7 a tag is missing.
    "words": lambda i: ["Janez", "came", *["again"] * (i % 3)],
    "tags": lambda i: [1, 0, *[0] * (i % 3)][i == 7 :],
}


def make(columns: str) -> Rows:
    """Rows of columns such as ``text: sentence; label: flag``."""
    pairs = [column.split(": ") for column in columns.split("; ")]
    return rows_of(**{name: VALUES[value] for name, value in pairs})


RATED = make("prompt: sentence; completion: passage; label: sometimes")
TOKENS = make("tokens: words; ner_tags: tags")
UNSUPPORTED = {
    "word: word; tag: tag": "entities",
    "text: sentence; entities: spans": "entities",
    "context: passage; question: sentence; answers: answers": "SQuAD",
    "context: passage; question: sentence; answer: inside": "SQuAD",
    "image: picture; caption: sentence; label: letter": "images, sounds",
    "path: sound; sentence: sentence; gender: letter": "images, sounds",
    "image: pixels; label: stars": "images, sounds",
    "path: source file; label: letter": "files beside the table",
    "prompt: short; response: sentence; rating: stars": "answers with a rating",
    "prompt: sentence; response: passage; helpfulness: stars; verbosity: flag": "with a rating",
    "prompt: sentence; completion: passage; label: stars": "answers with a rating",
    "instruction: short; output: sentence; score: share": "answers with a rating",
}


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("columns", UNSUPPORTED)
def test_a_kind_that_is_not_trained_is_named_with_what_is_closest(
    tmp_path: Path, columns: str, ending: str
) -> None:
    path = write(tmp_path / f"data{ending}", make(columns))
    with pytest.raises(DataError) as caught:
        infer_task(path)
    assert UNSUPPORTED[columns] in caught.value.what
    assert caught.value.where == str(path) and caught.value.remedy


@pytest.mark.parametrize("name", ["train.conll", "train.tsv", "train.txt", "train.bio"])
def test_a_file_of_tokens_with_their_tags_is_guessed(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("-DOCSTART-\n\nJanez\tB-PER\nNovak\tI-PER\ncame\tO\n\nHe\tO\ncame\tO\n" * 4)
    task = infer_task(path).task
    assert (task["kind"], task["text"], task["label"]) == ("token_classification", "tokens", "tags")
    assert task["group"] == "document" and "metric" not in task


ORDERS = {
    "token tag pos": ("{word} {tag} {pos}", ("tokens", "column_2")),
    "token pos tag": ("{word} {pos} {tag}", ("tokens", "tags")),
    "token pos": ("{word}\t{pos}", ("tokens", "tags")),
    "tag token": ("{tag}\t{word}", ("tags", "tokens")),
    "pos token": ("{pos} {word}", ("tags", "tokens")),
    "number token pos tag": ("{place} {word} {pos} {tag}", ("column_2", "tags")),
}


@pytest.mark.parametrize("ending", ["conll", "txt", "pos"])
@pytest.mark.parametrize("order", ORDERS)
def test_columns_of_conll_are_told_by_what_they_hold(
    order: str, ending: str, tmp_path: Path
) -> None:
    line, (words, tags) = ORDERS[order]
    path = tmp_path / f"train.{ending}"
    names = [("Ana", "B-PER", "PROPN"), ("sat", "O", "VERB"), ("there", "O", "ADV")]
    path.write_text(
        "\n".join(
            "".join(
                line.format(word=f"{word}{i}", tag=tag, pos=pos, place=place) + "\n"
                for place, (word, tag, pos) in enumerate(names, 1)
            )
            for i in ROWS
        )
    )
    task = infer_task(path).task
    assert (task["kind"], task["text"], task["label"]) == ("token_classification", words, tags)
    assert task.get("metric") == (None if "tag" in order else "token_accuracy")
    data = load_dataset(TaskSpec(**task))
    assert data.train[0].segments[0][0].split()[0].startswith("Ana")
    assert set(data.labels) == ({"O", "B-PER"} if "tag" in order else {"PROPN", "VERB", "ADV"})


def test_prose_in_paragraphs_is_no_conll(tmp_path: Path) -> None:
    path = tmp_path / "prose.txt"
    path.write_text("A first line of prose.\nA second.\n\nAnother paragraph.\n" * 9)
    with pytest.raises(DataError, match=r'the ending "\.txt" is not one that is read'):
        infer_task(path)


def test_parts_of_speech_are_guessed_with_their_metric(tmp_path: Path) -> None:
    path = tmp_path / "train.conllu"
    rows = (f"{i}\tw{i}\t_\t{'NOUN' if i % 2 else 'VERB'}" + "\t_" * 6 for i in range(1, 5))
    path.write_text("\n".join((*rows, "", "")) * 4)
    task = infer_task(path).task
    assert (task["text"], task["label"], task["metric"]) == ("form", "upos", "token_accuracy")


def test_a_label_that_the_user_names_is_taken(tmp_path: Path) -> None:
    rated = write(tmp_path / "rated.jsonl", RATED)
    task = infer_task(rated, NamedColumns("label", "prompt", "completion")).task
    assert (task["kind"], task["label"], task["text_pair"]) == ("pair", "label", "completion")
    indicators = write(
        tmp_path / "indicators.csv",
        make("comment: sentence; toxic: flag; insult: flag of two; threat: flag of four"),
    )
    assert infer_task(indicators, NamedColumns("threat", "comment")).task["labels"] == ["0", "1"]
    lists = write(tmp_path / "lists.jsonl", make("text: sentence; labels: topics"))
    assert infer_task(lists, NamedColumns("labels", "text")).task["kind"] == "multilabel"


USUAL = {
    "text: sentence; labels: topics": ("multilabel", "labels"),
    "text: sentence; tags: topics|": ("multilabel", "tags"),
    "text: sentence; label: topics,": ("multilabel", "label"),
    "comment: sentence; toxic: flag; insult: flag of two; threat: flag of four": (
        "multilabel",
        None,
    ),
    "text: sentence; label: town": ("classification", "label"),
    "text: sentence; target: decimals": ("regression", "target"),
    "text: sentence; label: polite": ("classification", "label"),
    "text: sentence; tags: topics|; label: letter": ("classification", "label"),
    "text: sentence; verified: flag; edited: flag of two; pinned: flag of four; label: letter": (
        "classification",
        "label",
    ),
    "age: number; smokes: flag; drinks: flag of two; died: flag of four": (
        "classification",
        "died",
    ),
    "sentence: sentence; positive: share; negative: share; score: share": ("regression", "score"),
    "query: sentence; passage: passage; label: flag": ("pair", "label"),
    "question: sentence; answer: passage; label: flag": ("pair", "label"),
    "image_url: address; description: sentence; category: letter": ("classification", "category"),
    "instruction: sentence; output: passage; answer: number": ("instruction", None),
    "path: source file; text: sentence; label: letter": ("classification", "label"),
    "question: sentence; passage: passage; answer: letter": ("pair", "answer"),
    "prompt: sentence; completion: passage; label: true": ("instruction", None),
    "en: sentence; sl: translation": ("translation", None),
}


@pytest.mark.parametrize("columns", USUAL)
def test_what_resembles_such_a_kind_is_drafted(tmp_path: Path, columns: str) -> None:
    for ending in (".csv", ".jsonl"):
        task = infer_task(write(tmp_path / f"data{ending}", make(columns))).task
        assert (task["kind"], task.get("label")) == USUAL[columns]


def test_summaries_and_open_questions_are_instructions(tmp_path: Path) -> None:
    summaries = rows_of(id=str, document=say(PASSAGE), summary=say("A market was held on day {}."))
    draft = draft_study(write(tmp_path / "a.jsonl", summaries), None, None, NamedColumns(), None)
    (doubt,) = draft.doubts
    assert "a text is written for each text" in doubt
    path = tmp_path / "a.yaml"
    path.write_text(draft.text, encoding="utf-8")
    task = Study.load(path).tasks[0]
    assert (task.kind, task.text, task.label) == ("instruction", "document", "summary")
    assert task.prompt == "{text}\nSummary:"
    dataset = load_dataset(task)
    assert dataset.train[0].target and dataset.train[0].target.startswith("A market was held")
    questions = rows_of(question=say("What is {} and one?"), answer=lambda i: f"It is {i + 1}.")
    task = infer_task(write(tmp_path / "b.csv", questions)).task
    assert (task["kind"], task["text"], task["label"]) == ("instruction", "question", "answer")


def warnings(rows: Rows, path: Path, **task: Any) -> list[str]:
    dataset = load_dataset(TaskSpec(name="x", train=str(write(path, rows)), **task))
    return [finding.code for finding in dataset.findings if finding.severity == "warning"]


def test_a_study_that_names_such_data_by_hand_is_warned(tmp_path: Path) -> None:
    path = tmp_path / "rated.jsonl"
    assert warnings(RATED, path, kind="instruction") == ["rated-completions"]
    good = [row for row in RATED if row["label"]]
    assert not warnings(good, path, kind="instruction")
    named = {"kind": "classification", "text": "text", "label": "label"}
    assert warnings(make("text: sentence; label: topics,"), tmp_path / "a.csv", **named) == [
        "label-sets"
    ]
    assert not warnings(make("text: sentence; label: town"), tmp_path / "b.csv", **named)


def test_a_study_by_hand_on_such_data_is_told_what_it_is(tmp_path: Path) -> None:
    labelled = {"kind": "classification", "text": "tokens", "label": "ner_tags"}
    with pytest.raises(DataError, match="hold words and their tags"):
        warnings(TOKENS, tmp_path / "a.parquet", **labelled)
    assert infer_task(tmp_path / "a.parquet").task["kind"] == "token_classification"
