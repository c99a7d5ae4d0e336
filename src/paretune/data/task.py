"""The content of a task file: a small value. See any file in `paretune/tasks/`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from paretune.data.finding import Finding
from paretune.data.rows import Row
from paretune.objectives.example import Segments
from paretune.objectives.prompt import Prompt
from paretune.study import TaskSpec

Template = Callable[[Mapping[str, str], str], Segments]
"""A function from a row's texts and the language to segments."""


@dataclass(frozen=True)
class TaskRows:
    """The rows of a task, with what was noted while reading them.

    Attributes:
        test: without any, some rows of train are held out.
        shifted: a second test part, from elsewhere.
        declared: label names that the files declare.
        source, licence: of the user's data; a built-in task states its own.
    """

    train: Sequence[Row]
    test: Sequence[Row] = ()
    unlabelled: Sequence[Row] = ()
    findings: Sequence[Finding] = ()
    shifted: Sequence[Row] = ()
    declared: tuple[str, ...] | None = None
    source: str = ""
    licence: str = "not stated"

    def parts(self) -> dict[str, Sequence[Row]]:
        """The parts that have rows, and train."""
        parts = {"test": self.test, "test_shifted": self.shifted, "unlabelled": self.unlabelled}
        return {"train": self.train, **{name: rows for name, rows in parts.items() if rows}}

    def map(self, change: Callable[[Sequence[Row]], list[Row]]) -> TaskRows:
        """A copy with changed rows in train, test and the second test part."""
        train, test, shifted = map(change, (self.train, self.test, self.shifted))
        return replace(self, train=train, test=test, shifted=shifted)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A built-in task.

    Attributes:
        labels: names in the order of the model's outputs; of an answer set the second is "right";
            a translation has none.
        columns: columns whose text a template may use; of a translation one for each language.
        languages: the first is taken where a study names none (and this is noted); a translation
            goes from one of its two into the other.
        licence, source: by language.
        templates: ``pair`` is the default; ``paper`` what the paper's notebooks built; a
            translation's texts are taken as they are. The docstring of a template stands on the
            card of an export: it says how a row becomes texts.
        read_rows: finds and reads the rows: ``(spec, language, data_home) -> TaskRows``.
        group: column whose equal values stay together in a split (a premise, a passage).
        clustered: rows of one group depend on one another so much that intervals come from
            whole groups (answers to questions on one passage).
        question: of an answer set: column that names the question that a row is one answer to.
        aliases: other spellings of labels that published files use.
        splits: how the rows may be parted; the first is the default.
        prompts: by language (of a translation the one it goes into), how a language model is asked,
            for texts of the first template; others are asked plainly
            (:func:`paretune.data.prompt.choose_prompt`).
        hub: dataset and revision at the hub that are read where a study names no ``source``.
    """

    name: str
    title: str
    kind: str
    labels: tuple[str, ...] = ()
    columns: tuple[str, ...]
    metric: str
    languages: tuple[str, ...]
    licence: Mapping[str, str]
    source: Mapping[str, str]
    templates: Mapping[str, Template] = field(default_factory=dict)
    read_rows: Callable[[TaskSpec, str, Path | None], TaskRows]
    id: str = "id"
    label: str = "label"
    group: str | None = None
    clustered: bool = False
    question: str | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    splits: tuple[str, ...] = ("published",)
    prompts: Mapping[str, Prompt] = field(default_factory=dict)
    hub: tuple[str, str] | None = None

    def prompt(self, template: str, language: str | None) -> Prompt | None:
        """The prompt for language models in a language, if the task has one."""
        first = next(iter(self.templates), template)
        return self.prompts.get(language or "") if template == first else None

    def hub_spec(self, spec: TaskSpec) -> TaskSpec | None:
        """The dataset of the hub that the task is read from, as an own task; None if from files."""
        if self.hub is None or spec.source is not None:
            return None
        dataset, revision = self.hub
        pinned = {"dataset": dataset, "revision": spec.revision or revision}
        return spec.model_copy(update={**pinned, "splits": {"train": "train"}})
