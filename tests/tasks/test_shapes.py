"""Kinds of data without one label a row are named, and what resembles them is not."""

from __future__ import annotations

import csv
import json
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


RATED = rows_of(prompt=say(SENTENCE), completion=say(PASSAGE), label=lambda i: i % 3 == 0)
TOPICS = (["news"], ["sport"], ["news", "sport"], ["sport", "travel"], ["travel", "news"])
UNSUPPORTED: dict[str, tuple[str, Rows]] = {
    "triplets": (
        "triplets",
        rows_of(anchor=say(SENTENCE), positive=say(PASSAGE), negative=say("It rained {} times.")),
    ),
    "mined triplets": (
        "triplets",
        rows_of(
            query=say(SENTENCE), pos=lambda i: [PASSAGE.format(i)], neg=lambda i: ["No.", "Never."]
        ),
    ),
    "tagged words": (
        "entities",
        rows_of(
            sentence_id=lambda i: i // 4,
            word=lambda i: ("Janez", "Novak", "came", ".")[i % 4],
            tag=lambda i: ("B-PER", "I-PER", "O", "O")[i % 4],
        ),
    ),
    "spans": (
        "entities",
        rows_of(
            text=say(SENTENCE),
            entities=lambda i: [{"start": 0, "end": 5, "label": "PER"}] if i % 2 else [],
        ),
    ),
    "squad": (
        "SQuAD",
        rows_of(
            title=lambda i: f"Market {i // 6}",
            context=say(PASSAGE),
            question=say("What was held on day {}?"),
            answers=lambda i: {"text": ["a market"], "answer_start": [10]},
        ),
    ),
    "flat squad": (
        "SQuAD",
        rows_of(context=say(PASSAGE), question=say("When was market {}?"), answer=say("On day {}")),
    ),
    "images": (
        "images, sounds",
        rows_of(
            image=lambda i: {"path": f"{i}.png", "bytes": None},
            caption=say(SENTENCE),
            label=lambda i: "ab"[i % 2],
        ),
    ),
    "paths of sounds": (
        "images, sounds",
        rows_of(
            path=lambda i: f"clips/common_{i}.mp3",
            sentence=say(SENTENCE),
            gender=lambda i: ("male", "female")[i % 2],
        ),
    ),
    "pixels": (
        "images, sounds",
        rows_of(image=lambda i: [[i, 0], [0, i]], label=lambda i: i % 3),
    ),
    "names of sounds": (
        "images, sounds",
        rows_of(audio=lambda i: f"{i}.wav", transcription=say(SENTENCE)),
    ),
    "paths": (
        "files beside the table",
        rows_of(path=lambda i: f"texts/{i}.txt", label=lambda i: ("good one", "bad one")[i % 2]),
    ),
    "stepwise rewards": (
        "stepwise rewards",
        rows_of(
            prompt=say("What is {} and one?"),
            completions=lambda i: [f"Take {i}.", "Add one.", "Done."][: 2 + i % 2],
            labels=lambda i: [True, i % 3 == 0, False][: 2 + i % 2],
        ),
    ),
    "rated answers": (
        "answers with a rating",
        rows_of(prompt=say("Say {}."), response=say("It is {}."), rating=lambda i: 1 + i % 5),
    ),
    "answers with several ratings": (
        "answers with a rating",
        rows_of(
            prompt=say(SENTENCE),
            response=say(PASSAGE),
            helpfulness=lambda i: i % 5,
            verbosity=lambda i: i % 3,
        ),
    ),
    "completions with a rating": (
        "answers with a rating",
        rows_of(prompt=say(SENTENCE), completion=say(PASSAGE), label=lambda i: 1 + i % 5),
    ),
    "rated instructions": (
        "answers with a rating",
        rows_of(instruction=say("Say {}."), output=say("It is {}."), score=lambda i: i / 10),
    ),
    "passages of a query": (
        "queries with lists of passages",
        rows_of(
            query=say("When was market {}?"),
            passages=lambda i: {"is_selected": [0, 1], "passage_text": ["No.", PASSAGE.format(i)]},
            query_type=lambda i: ("numeric", "entity")[i % 2],
        ),
    ),
    "retrieval": (
        "retrieval",
        rows_of(query=lambda i: SENTENCE.format(i % 8), passage=say(PASSAGE)),
    ),
}


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("case", UNSUPPORTED)
def test_a_kind_that_is_not_trained_is_named_with_what_is_closest(
    tmp_path: Path, case: str, ending: str
) -> None:
    title, rows = UNSUPPORTED[case]
    path = write(tmp_path / f"data{ending}", rows)
    with pytest.raises(DataError) as caught:
        infer_task(path)
    assert title in caught.value.what and "paretune does not train" in caught.value.what
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


TOKENS = rows_of(
    tokens=lambda i: ["Janez", "came", *["again"] * (i % 3)],
    ner_tags=lambda i: [1, 0, *[0] * (i % 3)][i == 7 :],  # of row 7 a tag is missing
)


def test_a_label_that_the_user_names_is_taken(tmp_path: Path) -> None:
    rated = write(tmp_path / "rated.jsonl", RATED)
    task = infer_task(rated, NamedColumns("label", "prompt", "completion")).task
    assert (task["kind"], task["label"], task["text_pair"]) == ("pair", "label", "completion")
    indicators = write(tmp_path / "indicators.csv", USUAL["indicators"][2])
    assert infer_task(indicators, NamedColumns("threat", "comment")).task["labels"] == ["0", "1"]
    lists = write(tmp_path / "lists.jsonl", USUAL["label lists"][2])
    assert infer_task(lists, NamedColumns("labels", "text")).task["kind"] == "multilabel"


USUAL: dict[str, tuple[str, str | None, Rows]] = {
    "label lists": (
        "multilabel",
        "labels",
        rows_of(text=say(SENTENCE), labels=lambda i: TOPICS[i % 5]),
    ),
    "separated labels": (
        "multilabel",
        "tags",
        rows_of(text=say(SENTENCE), tags=lambda i: "|".join(TOPICS[i % 5])),
    ),
    "commas": (
        "multilabel",
        "label",
        rows_of(text=say(SENTENCE), label=lambda i: ", ".join(TOPICS[i % 5])),
    ),
    "indicators": (
        "multilabel",
        None,
        rows_of(
            comment=say(SENTENCE),
            toxic=lambda i: i % 2,
            insult=lambda i: i // 2 % 2,
            threat=lambda i: i // 4 % 2,
        ),
    ),
    "commas in labels": (
        "classification",
        "label",
        rows_of(
            text=say(SENTENCE),
            label=lambda i: ("Ljubljana, Slovenia", "Maribor, Slovenia", "Graz, Austria")[i % 3],
        ),
    ),
    "decimal commas": (
        "regression",
        "target",
        rows_of(text=say(SENTENCE), target=lambda i: f"{i // 10},{i % 10}" if i % 10 else i // 10),
    ),
    "polite labels": (
        "classification",
        "label",
        rows_of(text=say(SENTENCE), label=lambda i: ("Yes, please", "No, thanks", "Later")[i % 3]),
    ),
    "tags beside a label": (
        "classification",
        "label",
        rows_of(
            text=say(SENTENCE),
            tags=lambda i: "|".join(TOPICS[i % 5]),
            label=lambda i: ("good", "bad")[i % 2],
        ),
    ),
    "flags beside a label": (
        "classification",
        "label",
        rows_of(
            text=say(SENTENCE),
            verified=lambda i: i % 2,
            edited=lambda i: i // 2 % 2,
            pinned=lambda i: i // 4 % 2,
            label=lambda i: ("good", "bad")[i % 2],
        ),
    ),
    "a table of flags": (
        "classification",
        "died",
        rows_of(
            age=lambda i: 30 + i,
            smokes=lambda i: i % 2,
            drinks=lambda i: i // 2 % 2,
            died=lambda i: i // 4 % 2,
        ),
    ),
    "shares of feelings": (
        "regression",
        "score",
        rows_of(
            sentence=say(SENTENCE),
            positive=lambda i: i / 30,
            negative=lambda i: 1 - i / 30,
            score=lambda i: i / 10 - 1,
        ),
    ),
    "relevance": (
        "pair",
        "label",
        rows_of(query=say(SENTENCE), passage=say(PASSAGE), label=lambda i: i % 2),
    ),
    "a question with an answer": (
        "pair",
        "label",
        rows_of(question=say(SENTENCE), answer=say(PASSAGE), label=lambda i: i % 2),
    ),
    "addresses of images beside a text": (
        "classification",
        "category",
        rows_of(
            image_url=lambda i: f"https://example.org/{i}.jpg",
            description=say(SENTENCE),
            category=lambda i: "ab"[i % 2],
        ),
    ),
    "numbers that answer": (
        "instruction",
        None,
        rows_of(instruction=say(SENTENCE), output=say(PASSAGE), answer=lambda i: i),
    ),
    "paths beside a text": (
        "classification",
        "label",
        rows_of(path=lambda i: f"src/{i}.py", text=say(SENTENCE), label=lambda i: "ab"[i % 2]),
    ),
    "yes or no about a passage": (
        "pair",
        "answer",
        rows_of(
            question=say("Was it on day {}?"),
            passage=say(PASSAGE),
            answer=lambda i: ("yes", "no")[i % 2],
        ),
    ),
    "instructions": (
        "instruction",
        None,
        rows_of(prompt=say(SENTENCE), completion=say(PASSAGE), label=lambda i: True),
    ),
    "a translation": ("translation", None, rows_of(en=say(SENTENCE), sl=say("Na dan {} je bil."))),
}


@pytest.mark.parametrize("case", USUAL)
def test_what_resembles_such_a_kind_is_drafted(tmp_path: Path, case: str) -> None:
    kind, label, rows = USUAL[case]
    for ending in (".csv", ".jsonl"):
        task = infer_task(write(tmp_path / f"data{ending}", rows)).task
        assert (task["kind"], task.get("label")) == (kind, label)


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
    assert warnings(USUAL["commas"][2], tmp_path / "a.csv", **named) == ["label-sets"]
    assert not warnings(USUAL["commas in labels"][2], tmp_path / "b.csv", **named)


def test_a_study_by_hand_on_such_data_is_told_what_it_is(tmp_path: Path) -> None:
    labelled = {"kind": "classification", "text": "tokens", "label": "ner_tags"}
    with pytest.raises(DataError, match="hold words and their tags"):
        warnings(TOKENS, tmp_path / "a.parquet", **labelled)
    assert infer_task(tmp_path / "a.parquet").task["kind"] == "token_classification"
