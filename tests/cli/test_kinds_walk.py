"""Of every kind of task: a file as it is found, what `new` makes of it, `check`, and its runs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.tiny_study import command, finish

from paretune import objectives
from paretune.testing.translator_folders import sentences
from paretune.verbs.study_input import load_study

SETTINGS = (
    *(
        "methods=[{name: lora, rank: 2, learning_rates: [1e-3]}]",
        "protocol.trials=1",
        "protocol.seeds=[1]",
    ),
    *("protocol.outer=split", "training.max_steps=2", "training.eval_every=2"),
    *("training.max_length=96", "training.precision=fp32", "training.batch_size=8"),
)
ROWS = range(40)
NOUNS = ("cat", "dog", "door", "room", "window", "water")
TOPICS = (["news"], ["sport"], ["news", "sport"], ["sport", "travel"], ["travel", "news"])
PAIRS = sentences(len(ROWS), 1)
CHAT_TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
MakeRow = Callable[[int], dict[str, Any]]


def sentence(i: int) -> str:
    return f"The {NOUNS[i % 6]} sat on the {NOUNS[i % 5]} number {i}."


def as_csv(make_row: MakeRow) -> str:
    stream, rows = io.StringIO(), [make_row(i) for i in ROWS]
    writer = csv.DictWriter(stream, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def as_json(make_row: MakeRow) -> str:
    return "".join(json.dumps(make_row(i)) + "\n" for i in ROWS)


def as_conllu() -> str:
    """Sixty sentences as Universal Dependencies has them, in ten documents."""
    lines = []
    for i in range(60):
        words = [("The", "DET"), (NOUNS[i % 6], "NOUN"), ("sat", "VERB"), (f"n{i}", "NUM")]
        words = [*words[:1], ("old", "ADJ"), *words[1:], (".", "PUNCT")] if i % 2 else words
        lines += [f"# newdoc id = d{i // 6}"] if i % 6 == 0 else []
        lines += [f"# sent_id = s{i}", f"# text = {' '.join(word for word, _ in words)}"]
        for number, (word, tag) in enumerate(words, 1):
            head, relation = (0, "root") if tag == "VERB" else (3, "dep")
            fields = (number, word, word.lower(), tag, tag[:2], "_", head, relation, "_", "_")
            lines.append("\t".join(map(str, fields)))
        lines.append("")
    return "\n".join(lines)


CASES: dict[str, tuple[str, str, dict[str, object]]] = {
    "texts.csv": (
        "classification",
        as_csv(lambda i: {"text": sentence(i), "label": "ab"[i % 2]}),
        {"text": "text", "label": "label"},
    ),
    "pairs.csv": (
        "pair",
        as_csv(
            lambda i: {
                "premise": sentence(i),
                "hypothesis": sentence(7 * i),
                "label": "ab"[i % 2],
            }
        ),
        {"text": "premise", "text_pair": "hypothesis"},
    ),
    "choices.csv": (
        "multiple_choice",
        as_csv(
            lambda i: {
                "premise": sentence(i),
                "choice1": f"Ice {i}.",
                "choice2": f"Water {i}.",
                "label": i % 2,
            }
        ),
        {"choices": ("choice1", "choice2"), "label": "label"},
    ),
    "numbers.csv": (
        "regression",
        as_csv(lambda i: {"review": sentence(i), "score": i / 10}),
        {"text": "review", "label": "score"},
    ),
    "lists.jsonl": (
        "multilabel",
        as_json(lambda i: {"text": sentence(i), "labels": TOPICS[i % 5]}),
        {"label": "labels", "labels": ("news", "sport", "travel")},
    ),
    "made-ud-dev.conllu": (
        "token_classification",
        as_conllu(),
        {"text": "form", "label": "upos", "metric": "token_accuracy", "group": "document"},
    ),
    "translation.csv": (
        "translation",
        as_csv(lambda i: dict(zip(("sl", "en"), PAIRS[i], strict=True))),
        {"source_lang": "sl", "target_lang": "en"},
    ),
    "completions.jsonl": (
        "instruction",
        as_json(lambda i: {"prompt": f"Say {i}.", "completion": f"It is {i}."}),
        {"text": None},
    ),
    "chat.jsonl": (
        "instruction",
        as_json(
            lambda i: {
                "messages": [
                    {"role": "user", "content": f"Say {i}."},
                    {"role": "assistant", "content": f"It is {i}."},
                ]
            }
        ),
        {"text": None},
    ),
    "questions.csv": (
        "instruction",
        as_csv(lambda i: {"question": f"What is {i}?", "answer": f"It is {i}."}),
        {"text": "question", "label": "answer"},
    ),
    "preferences.jsonl": (
        "preference",
        as_json(
            lambda i: {"prompt": f"Say {i}.", "chosen": f"It is {i}.", "rejected": f"No, not {i}."}
        ),
        {"text": None},
    ),
    "rated.jsonl": (
        "unpaired_preference",
        as_json(
            lambda i: {"prompt": f"Say {i}.", "completion": f"It is {i}.", "label": i % 3 == 0}
        ),
        {"text": None},
    ),
}
"""By the name of a file: its kind, what it holds, and keys of the task that `new` guesses."""
ALWAYS = ("texts.csv", "choices.csv", "made-ud-dev.conllu", "chat.jsonl", "preferences.jsonl")
"""The rest is wide: each takes seconds."""


@pytest.fixture
def model(checkpoint: Any, tiny_model: Any, tmp_path: Path) -> Callable[[str], Path]:
    """The folder of a tiny model for a kind of task; a decoder has a chat template."""

    def give(kind: str) -> Path:
        if kind == "translation":
            return Path(checkpoint("marian"))
        if objectives.get(kind).head != "causal_lm":
            return Path(tiny_model("bert"))
        folder = Path(tiny_model("llama", tmp_path / "llama"))
        (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
        return folder

    return give


def test_the_files_are_of_every_kind_that_a_user_may_name() -> None:
    guessed = {n for n in objectives.own_data_names() if not objectives.get(n).is_external}
    assert {kind for kind, *_ in CASES.values()} == guessed


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in ALWAYS else pytest.mark.wide) for n in CASES]
)
def test_a_file_is_guessed_checked_and_trained(
    name: str, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    kind, content, guessed = CASES[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(content, encoding="utf-8")
    code, _, err = command(capsys, "new", name, "--model", model(kind), "--output", "s.yaml")
    assert code == 0, err
    code, out, err = command(capsys, "check", "s.yaml", *SETTINGS)
    assert code == 0, out + err
    study = load_study("s.yaml", SETTINGS)
    (task,) = study.tasks
    assert (task.kind, {key: getattr(task, key) for key in guessed}) == (kind, guessed)
    with finish(study, tmp_path / "store", costs=0) as store:
        statuses = store.load_statuses(study.study_hash)
        records = store.load_records(study.study_hash)
    assert [status.message for status in statuses if status.state == "failed"] == []
    (trained,) = (r for r in records if (r.run.method.name, r.run.stage) == ("lora", "final"))
    assert trained.result["scores"]["test"]["n"] > 0
