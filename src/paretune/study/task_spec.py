"""A task as a study names it: a built-in one, or data of the user. Shape only; no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from paretune.answers import LengthNormalisation, Readout
from paretune.study.specs import FrozenModel

DataPart = Literal["train", "test", "test_shifted"]
"""A part of a task's data; ``test_shifted`` is a second test part from another source."""

PROMPT_KEYS = ("prompt", "label_texts", "length_normalisation", "loss_on")
"""Keys that say how a language model is asked, and which words it learns."""
PLACEHOLDERS = ("text", "text_pair")
"""Names that a prompt may have in braces: the texts of an example."""
_OWN_DATA_KEYS = (
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
    "split_by",
    "test",
    "splits",
    "train_target",
    "test_target",
    "test_shifted",
    "test_shifted_target",
    "unlabelled",
    "drop_unlabelled",
)
LossOn = Literal["last_answer", "all_answers"]
"""The answers of a conversation that are learnt; TRL calls ``all_answers`` ``assistant_only_loss``.
"""


class TaskSpec(FrozenModel):
    """A built-in task by name, or the user's files or hub dataset.

    A built-in task has a ``name`` (and ``language``, ``source``, ``template``; ``split: paper`` for
    the rows that the paper chose). Data of the user have ``kind``, ``label``, ``text`` (and
    ``text_pair``, or ``choices`` and the column of a ``question``), with ``train`` and ``test``
    files or a hub ``dataset``. A table has ``features`` instead of ``text``, and ``template``, the
    sentence that a row becomes (``"A house of {rooms} rooms, built in {year}."``).

    A translation has ``kind: translation`` with ``source_lang`` and ``target_lang``, which are also
    the columns (``text`` and ``label`` name other columns). Plain text is one file for each
    language: ``train`` with ``train_target``, or a ``train`` to which the languages are appended,
    as in Moses (``corpus`` for ``corpus.sl`` and ``corpus.en``).

    ``drop_unlabelled`` leaves out rows without a label, which are an error otherwise.

    ``split_by`` is a column of dates, or one that says which rows are train, validation and test.
    Without test rows the validation rows are the test; otherwise they are not used. By dates the
    newest rows are the test, instead of rows drawn at random.

    ``test_shifted`` is a second test part from another source than the first. It is scored beside
    the first and enters no verdict.

    ``unlabelled`` is a file of further rows without labels, from the source of the labelled ones
    (for a kind with one label, scored by accuracy). Final runs answer them, and these answers
    correct differences of methods (:mod:`paretune.analysis.statistics.unlabelled`).

    For every task these keys say how a language model is asked: ``prompt`` is a text with
    ``{text}`` and ``{text_pair}`` in it; ``label_texts`` has one text for each label, in the order
    of the labels; ``length_normalisation`` says what the log-likelihood of such a text is divided
    by. ``readout`` is how the model answers; None is the usual way for such models. ``loss_on``
    says which answers of a conversation training learns (``kind: instruction``); None is the last
    one.
    """

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    language: str | None = None
    source: str | None = None
    template: str = "pair"
    split: Literal["published", "paper"] = "published"
    limit: Mapping[DataPart, int] | None = None

    kind: str | None = None
    train: str | None = None
    test: str | None = None
    train_target: str | None = None
    test_target: str | None = None
    test_shifted: str | None = None
    test_shifted_target: str | None = None
    unlabelled: str | None = None
    dataset: str | None = None
    config: str | None = None
    revision: str | None = None
    splits: Mapping[DataPart, str] | None = None
    text: str | None = None
    text_pair: str | None = None
    choices: tuple[str, ...] | None = None
    question: str | None = None
    features: tuple[str, ...] | None = None
    label: str | None = None
    id: str | None = None
    group: str | None = None
    split_by: str | None = None
    labels: tuple[str, ...] | None = None
    drop_unlabelled: bool = False
    metric: str | None = None
    licence: str | None = None
    source_lang: str | None = None
    target_lang: str | None = None
    readout: Readout | None = None
    prompt: str | None = None
    label_texts: tuple[str, ...] | None = None
    length_normalisation: LengthNormalisation | None = None
    loss_on: LossOn | None = None

    @property
    def languages(self) -> tuple[str, str] | None:
        """Source and target language of a task that has two."""
        if self.source_lang is None or self.target_lang is None:
            return None
        return self.source_lang, self.target_lang

    @property
    def has_own_data(self) -> bool:
        """Whether this names data of the user instead of a built-in task."""
        return self.train is not None or self.dataset is not None

    @property
    def key(self) -> str:
        """A short name for tables: ``boolq-sl``, ``my-topics``."""
        if self.languages is not None:
            return "-".join((self.name, *self.languages))
        return f"{self.name}-{self.language}" if self.language else self.name

    @field_validator("kind", "metric")
    @classmethod
    def _check_installed(cls, name: str | None, info: ValidationInfo) -> str | None:
        from paretune import metrics, objectives  # deferred, because they import numpy

        listed = {"kind": objectives.own_data_names, "metric": metrics.selectable_names}
        if name is not None and name not in (names := listed[str(info.field_name)]()):
            expected = {"expected": ", ".join(names)}
            raise PydanticCustomError("literal_error", "not one of {expected}", expected)
        return name

    @field_validator("prompt")
    @classmethod
    def _check_prompt(cls, prompt: str | None) -> str | None:
        if prompt is None:
            return None
        named = re.findall(r"\{(\w+)\}", prompt)
        if unknown := [name for name in named if name not in PLACEHOLDERS]:
            raise ValueError(
                f"{{{unknown[0]}}} is none of {{text}} and {{text_pair}}: the columns are named by "
                "text: and text_pair:"
            )
        if "text" not in named:
            raise ValueError("it does not hold {text}, where the example's text goes")
        return prompt

    @field_validator("label_texts")
    @classmethod
    def _check_label_texts(cls, texts: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if texts is None:
            return None
        if empty := [i for i, text in enumerate(texts) if not text.strip()]:
            raise ValueError(f"text {empty[0] + 1} is empty")
        if len(set(texts)) < len(texts):
            raise ValueError("two labels have the same text")
        return texts

    def _list_given(self, *names: str) -> list[str]:
        """Return the keys among ``names`` that the study file gives."""
        return [name for name in names if getattr(self, name) is not None]

    @model_validator(mode="after")
    def _check_shape(self) -> TaskSpec:
        if (self.source_lang is None) != (self.target_lang is None):
            raise ValueError("source_lang and target_lang go together")
        if self.source_lang is not None and self.source_lang == self.target_lang:
            raise ValueError(f"source_lang and target_lang are both {self.source_lang}")
        keys = self._list_given("text_pair", "choices", "features", "labels", "language")
        if self.languages is not None and keys:
            raise ValueError(f"a translation has no {', '.join(keys)}; remove it")
        # Conversations have several answers, unless one prompt is written around their text.
        if self.loss_on is not None and self.kind != "instruction":
            raise ValueError("loss_on goes with kind: instruction")
        if self.loss_on == "all_answers" and self.prompt is not None:
            raise ValueError("loss_on: all_answers needs the model's chat template: remove prompt")
        if not self.has_own_data:
            # Such a task has files, columns and labels already.
            if keys := [key for key in _OWN_DATA_KEYS if getattr(self, key)]:
                raise ValueError(
                    f"{', '.join(keys)} belong to a task with files of its own; "
                    "add train: FILE or dataset: NAME, or remove them"
                )
            return self
        if self.train is not None and self.dataset is not None:
            raise ValueError("give either train: FILE or dataset: NAME, not both")
        if self.split != "published":
            raise ValueError("split goes with a built-in task; name your own parts as train, test")
        if self.split_by is not None and (self.test or "test" in (self.splits or {})):
            raise ValueError("split_by takes the test part from train: remove it, or test")
        if self.features is not None:
            if texts := self._list_given("text", "text_pair", "choices"):
                raise ValueError(f"features replace {', '.join(texts)}: give one of the two")
            if not self.features or self.label in self.features:
                raise ValueError(
                    "features: name the columns to predict the label from, not the label itself"
                )
        return self

    @model_validator(mode="after")
    def _check_objective(self) -> TaskSpec:
        """Check the columns, languages and metric of the user's data against the objective."""
        from paretune import metrics, objectives

        if not self.has_own_data:
            return self
        if self.kind is None:
            objective = objectives.guess(between_languages=self.languages is not None)
        else:
            objective = objectives.get(self.kind)
        if (self.languages is not None) != objective.between_languages:
            raise ValueError("kind: translation, source_lang and target_lang go together")
        if self.test_shifted is not None and self.dataset is not None:
            raise ValueError("of a hub dataset, name it as splits: {test_shifted: SPLIT}")
        for part in ("train", "test", "test_shifted"):
            if getattr(self, f"{part}_target") is not None and (
                not objective.between_languages or getattr(self, part) is None
            ):
                raise ValueError(f"{part}_target goes with {part} of a translation")
        if self.drop_unlabelled and objective.generates:
            raise ValueError(f"kind: {self.kind} has no labels: remove drop_unlabelled")
        for name, reason in objective.excluded.items():
            if getattr(self, name) is not None:
                raise ValueError(reason)
        missing = [name for name in ("kind", *objective.required) if not getattr(self, name)]
        if self.features and "text" in missing:
            missing.remove("text")
        if missing:
            raise ValueError(f"a task with data of its own needs {', '.join(missing)}")
        if self.metric is not None and not objective.accepts(metrics.get(self.metric)):
            fitting = ", ".join(objective.selectable_metrics)
            raise ValueError(f"metric {self.metric} is none of {self.kind}: {fitting}")
        metric = self.metric or objective.default_metric
        if self.unlabelled is not None and (objective.reader, metric) != ("labels", "accuracy"):
            raise ValueError(
                "unlabelled goes with kind: classification or pair, and metric: accuracy"
            )
        return self
