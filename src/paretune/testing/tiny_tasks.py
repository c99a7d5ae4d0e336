"""Tiny tasks in files, and runs on them: random words of the tiny models, of many lengths."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

from paretune import methods
from paretune.study import MethodSpec, ModelSpec, Run, TaskSpec, Training
from paretune.testing.tiny_models import WORDS

KINDS = (
    "classification",
    "pair",
    "multiple_choice",
    "regression",
    "multilabel",
    "token_classification",
)
SMALL = {"rank": 2, "num_virtual_tokens": 4, "reduction_factor": 8}
"""Options that keep a method small."""


def tiny_task(
    folder: Path, kind: str = "classification", *, train: int = 40, test: int = 12, seed: int = 0
) -> TaskSpec:
    """A task with ``train`` and ``test`` rows; three labels, two choices, a number, or tags.

    The word "water" stands in every text of label b and in every right choice, makes the number
    larger by 1, and is an entity: it can be learnt.
    """
    folder.mkdir(parents=True, exist_ok=True)
    extra = _COLUMNS.get(kind, {})
    second = [extra["text_pair"]] if "text_pair" in extra else []
    columns = ["text", *second, *extra.get("choices", ()), "label"]
    rng = random.Random(f"{kind} {seed}")  # noqa: S311 (a toy's words, no secret)
    for part, rows in (("train", train), ("test", test)):
        with (folder / f"{part}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(_make_row(kind, i, rng) for i in range(rows))
    shape: dict[str, Any] = {"text": "text", "label": "label", **extra}
    return TaskSpec(
        name="tiny",
        kind=kind,
        train=str(folder / "train.csv"),
        test=str(folder / "test.csv"),
        **shape,
    )


def tiny_run(task: TaskSpec, model: Path, method: str = "lora", **changes: Any) -> Run:
    """A final run of a few steps; ``options`` are the method's, ``training`` overrides settings."""
    options = changes.pop("options") if "options" in changes else small(method)
    training = {
        "batch_size": 8,
        "max_steps": 3,
        "max_length": 64,
        "precision": "fp32",
        **changes.pop("training", {}),
    }
    values: dict[str, Any] = {"stage": "final", "seed": 1, "learning_rate": 1e-2, **changes}
    return Run(
        task=task,
        model=ModelSpec(name=str(model), label="tiny"),
        method=MethodSpec(name=method, **options),
        training=Training(**training),
        **values,
    )


def small(method: str) -> dict[str, Any]:
    """Options that make ``method`` small: those of :data:`SMALL` that it has."""
    if method == "stack":
        return {"methods": [{"name": "lora", "rank": 2}, "ia3"]}
    fields = methods.get(method).options.model_fields
    return {name: value for name, value in SMALL.items() if name in fields}


def silent(progress: dict[str, Any]) -> None:
    """A report that nobody reads."""


_COLUMNS: dict[str, dict[str, Any]] = {
    "pair": {"text_pair": "second"},
    "multiple_choice": {"choices": ("one", "two")},
}


def _words(rng: random.Random, low: int, high: int) -> list[str]:
    return [w for w in rng.choices(WORDS, k=rng.randint(low, high)) if w != "water"]


def _marked(text: list[str], mark: bool) -> str:
    return " ".join([*text[:1], "water", *text[1:]] if mark else text)


def _make_row(kind: str, i: int, rng: random.Random) -> list[str]:
    if kind == "multiple_choice":
        choices = [_marked(_words(rng, 2, 8), choice == i % 2) for choice in (0, 1)]
        return [" ".join(_words(rng, 2, 10)), *choices, str(i % 2)]
    if kind == "regression":
        text = _marked(_words(rng, 2, 18), i % 2 == 1)
        return [text, f"{0.5 + i % 2 + rng.random() / 100:.4f}"]
    if kind == "token_classification":
        words = _marked(_words(rng, 2, 18), i % 3 > 0).split() or ["water"]
        return [" ".join(words), " ".join("B-X" if word == "water" else "O" for word in words)]
    label = "abc"[i % 3]
    if kind == "pair":
        second = " ".join(_words(rng, 1, 10))
        return [_marked(_words(rng, 2, 18), label == "b"), second, label]
    text = _marked(_words(rng, 2, 18), label == "b")
    return [text, f"{label}|d" if kind == "multilabel" and i % 2 == 0 else label]
