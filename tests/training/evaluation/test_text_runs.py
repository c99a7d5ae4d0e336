"""Runs of decoders that answer by texts: instructions, labels, translations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paretune.metrics.classification import NO_LABEL
from paretune.study import Generation, Run, TaskSpec
from paretune.testing.tiny_tasks import WORDS, silent, tiny_run, tiny_task
from paretune.training import Outcome
from paretune.training.trainer import train_run

ANSWERS = Generation(max_new_tokens=6)


@pytest.fixture
def instructions(tmp_path: Path) -> TaskSpec:
    """Say a word again: it can be learnt in a few steps."""
    for part, rows in (("train", 40), ("test", 9)):
        texts = [WORDS[(7 * i + rows) % len(WORDS)] for i in range(rows)]
        lines = [json.dumps({"prompt": f"Say {t}:", "completion": f" {t}"}) for t in texts]
        (tmp_path / f"{part}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    files = {part: str(tmp_path / f"{part}.jsonl") for part in ("train", "test")}
    return TaskSpec(name="say", kind="instruction", **files)


def text_run(task: TaskSpec, model: Path, **changes: Any) -> Run:
    return tiny_run(task, model, readout="text", generation=ANSWERS, **changes)


def train(run: Run, folder: Path) -> Outcome:
    """Train a run, with its checkpoint in a folder."""
    return train_run(run, checkpoint=folder / "checkpoint", report=silent)


def read(outcome: Outcome) -> dict[str, Any]:
    predictions: dict[str, Any] = json.loads(outcome.blobs["predictions"])
    return predictions


@pytest.mark.parametrize(("family", "method"), [("llama", "lora"), ("gemma3", "prompt")])
def test_instructions_are_learnt_and_answered(
    family: str,
    method: str,
    instructions: TaskSpec,
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    run = text_run(instructions, tiny_model(family), method=method, training={"max_steps": 8})
    outcome = train(run, tmp_path)
    curve = [point["selection"]["loss"] for point in outcome.result["curve"]]
    assert curve[-1] < curve[0]
    test, scores = read(outcome)["test"], outcome.result["scores"]["test"]
    assert all(isinstance(text, str) for text in test["prediction"])
    assert {"exact_match", "token_f1", "chrf", "loss", "primary"} <= set(scores)
    # The log-likelihood of each token of the completion and of its end.
    mean = sum(map(sum, test["scores"])) / sum(map(len, test["scores"]))
    assert mean == pytest.approx(-scores["loss"], abs=1e-3)
    assert "chrf" in outcome.result["signatures"]


def test_labels_are_read_from_texts(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    task = tiny_task(tmp_path / "task")
    outcome = train(text_run(task, tiny_model("llama")), tmp_path)
    test, scores = read(outcome)["test"], outcome.result["scores"]["test"]
    assert set(test["prediction"]) <= {NO_LABEL, 0, 1, 2}
    missing = test["prediction"].count(NO_LABEL) / len(test["prediction"])
    assert scores.get("no_label", 0) == pytest.approx(missing)
    right = sum(p == label for p, label in zip(test["prediction"], test["label"], strict=True))
    assert scores["accuracy"] == pytest.approx(right / len(test["label"]))
    # Beside it how likely the text of each label is: a likelihood can be made of it.
    assert {len(own) for own in test["scores"]} == {3} and all(
        max(own) <= 0 for own in test["scores"]
    )
    words = text_run(task, tiny_model("llama")).model_copy(update={"readout": "label_words"})
    assert set(outcome.result["truncated"]) == set(train(words, tmp_path).result["truncated"])
