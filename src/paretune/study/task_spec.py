"""A task as a study names it: a built-in one, or data of the user's own. Shape only; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from pydantic import Field, model_validator

from paretune.study import aliases
from paretune.study.base import FrozenModel

CustomTaskKind = Literal["classification", "pair", "multiple_choice", "regression", "translation"]
"""What data of one's own may be."""


TaskKind = Literal[CustomTaskKind, "span_pair", "answer_set"]
"""What a task may be: a span pair is a text with two marked spans; the examples of an answer set
are answers to questions, and a question counts as a whole too."""


Label = int | float
"""An index into the labels (or choices), or the number that a regression is to find."""


Answer = Label | str
"""A label, or the text of a translation."""


Metric = Literal[
    "accuracy",
    "macro_f1",
    "weighted_f1",
    "accuracy_f1",
    "r2",
    "pearson",
    "spearman",
    "f1a_em",
    "bleu",
    "chrf",
]

REGRESSION_METRICS = ("r2", "pearson", "spearman")
"""The metrics of a regression."""

ANSWER_SET_METRICS = ("f1a_em",)
"""The metrics of answer sets alone."""

TRANSLATION_METRICS = ("bleu", "chrf")
"""The metrics of a translation, 0 to 100; all that are named nowhere are of classes and choices."""


def metrics_for_kind(kind: str) -> tuple[Metric, ...]:
    """The metrics that fit a kind of task."""
    every: tuple[Metric, ...] = get_args(Metric)
    own = {"regression": REGRESSION_METRICS, "translation": TRANSLATION_METRICS}
    if kind in own:
        return tuple(m for m in every if m in own[kind])
    sets = () if kind == "answer_set" else ANSWER_SET_METRICS
    return tuple(m for m in every if m not in (*REGRESSION_METRICS, *TRANSLATION_METRICS, *sets))


class TaskSpec(FrozenModel):
    """A built-in task by name, or the user's own files or hub dataset.

    Built-in: ``name`` (and ``language``, ``source``, ``template``; ``split: paper`` for rows that
    the paper chose itself). Own data: ``kind``, ``label``,
    ``text`` (and ``text_pair``, or ``choices`` and the column of a ``question``), with ``train``
    and ``test`` files or a hub ``dataset``. A table instead of texts: ``features`` in the place of
    ``text``, and ``template``, the sentence that a row becomes (``"A house of {rooms} rooms, built
    in {year}."``).

    A translation: ``kind: translation`` with ``source_lang`` and ``target_lang``, which are also
    the columns (``text`` and ``label`` name others). Plain text is one file for each language:
    ``train`` with ``train_target``, or a ``train`` to which the languages are appended, as Moses
    has it (``corpus`` for ``corpus.sl`` and ``corpus.en``).
    """

    ALIASES = aliases.TASK_ALIASES

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    language: str | None = None
    source: str | None = None
    template: str = "pair"
    split: Literal["published", "paper"] = "published"
    limit: Mapping[Literal["train", "test"], int] | None = None

    kind: CustomTaskKind | None = None
    train: str | None = None
    test: str | None = None
    train_target: str | None = None
    test_target: str | None = None
    dataset: str | None = None
    config: str | None = None
    revision: str | None = None
    splits: Mapping[Literal["train", "test"], str] | None = None
    text: str | None = None
    text_pair: str | None = None
    choices: tuple[str, ...] | None = None
    question: str | None = None
    features: tuple[str, ...] | None = None
    label: str | None = None
    id: str | None = None
    group: str | None = None
    labels: tuple[str, ...] | None = None
    metric: Metric | None = None
    licence: str | None = None
    source_lang: str | None = None
    target_lang: str | None = None

    @property
    def is_translation(self) -> bool:
        """Whether the task is a translation."""
        return self.target_lang is not None

    @property
    def has_own_data(self) -> bool:
        """Whether this names the user's own data instead of a built-in task."""
        return self.train is not None or self.dataset is not None

    @property
    def key(self) -> str:
        """How the task is called in a study: ``boolq-sl``, ``my-topics``."""
        if self.is_translation:
            return f"{self.name}-{self.source_lang}-{self.target_lang}"
        return f"{self.name}-{self.language}" if self.language else self.name

    @model_validator(mode="after")
    def _check_shape(self) -> TaskSpec:
        own_only = (
            "kind",
            "text",
            "text_pair",
            "choices",
            "question",
            "features",
            "label",
            "labels",
            "id",
            "group",
        )
        self._check_languages()
        if not self.has_own_data:
            files = ("test", "splits", "train_target", "test_target")
            given = [k for k in (*own_only, *files) if getattr(self, k) is not None]
            if given:
                raise ValueError(
                    f"{', '.join(given)} belong to a task with files of its own; "
                    "add train: FILE or dataset: NAME, or remove them"
                )
            return self
        if self.train is not None and self.dataset is not None:
            raise ValueError("give either train: FILE or dataset: NAME, not both")
        self._check_table()
        needed = ("kind",) if self.is_translation else ("kind", "text", "label")
        missing = [k for k in needed if getattr(self, k) is None]
        if self.features and "text" in missing:
            missing.remove("text")
        if self.kind == "pair" and self.text_pair is None:
            missing.append("text_pair")
        if self.kind == "multiple_choice" and not self.choices:
            missing.append("choices")
        if self.question is not None and self.kind != "multiple_choice":
            raise ValueError("question goes with kind multiple_choice; for two texts: text_pair")
        if missing:
            raise ValueError(f"a task with data of its own needs {', '.join(missing)}")
        numbers = self.kind == "regression"
        fitting = metrics_for_kind(str(self.kind))
        if self.metric is not None and self.metric not in fitting:
            raise ValueError(f"metric {self.metric} is none of {self.kind}: {', '.join(fitting)}")
        if numbers and self.labels is not None:
            raise ValueError("labels: a regression has numbers; remove them, or change kind")
        return self

    def _check_languages(self) -> None:
        """Both languages or none, and of a translation both; nothing else has two files."""
        if (self.source_lang is None) != (self.target_lang is None):
            raise ValueError("source_lang and target_lang go together")
        if self.source_lang is not None and self.source_lang == self.target_lang:
            raise ValueError(f"source_lang and target_lang are both {self.source_lang}")
        if self.has_own_data and self.is_translation != (self.kind == "translation"):
            raise ValueError("kind: translation, source_lang and target_lang go together")
        if self.has_own_data and self.split != "published":
            raise ValueError("split goes with a built-in task; name your own parts as train, test")
        if self.is_translation:
            names = ("text_pair", "choices", "features", "labels", "language")
            given = [k for k in names if getattr(self, k) is not None]
            if given:
                raise ValueError(f"a translation has no {', '.join(given)}; remove it")
        for part in ("train", "test"):
            if getattr(self, f"{part}_target") is None:
                continue
            if self.kind != "translation" or getattr(self, part) is None:
                raise ValueError(f"{part}_target goes with {part} of a translation")

    def _check_table(self) -> None:
        """Features stand in the place of a text."""
        if self.features is None:
            return
        beside = [k for k in ("text", "text_pair", "choices") if getattr(self, k) is not None]
        if beside:
            raise ValueError(
                f"features stand in the place of {', '.join(beside)}: give one of both"
            )
        if self.kind in ("pair", "multiple_choice"):
            raise ValueError("features go with kind classification or regression")
        if not self.features or self.label in self.features:
            raise ValueError(
                "features: name the columns that the label is told from, not the label"
            )
