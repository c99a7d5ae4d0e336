"""What a task file states: a small value. See any file in `paretune/tasks/`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from paretune.data.example import Segments
from paretune.data.finding import Finding
from paretune.data.read import Row
from paretune.study import Kind, TaskSpec

Template = Callable[[Mapping[str, str], str], Segments]
"""From a row's texts and the language to segments."""


@dataclass(frozen=True)
class Parts:
    """The rows of a task, with what was noted while finding them."""

    train: list[Row]
    test: list[Row]
    unlabelled: list[Row] = field(default_factory=list)
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Task:
    """A built-in task.

    Attributes:
        name: as a study file calls it.
        title: one line for `paretune ls tasks`.
        kind: any but ``regression``.
        labels: names in the order of the model's outputs; of an answer set the second is "right".
        columns: columns whose text a template may use.
        metric: the primary metric.
        languages: the first is taken where a study names none (and this is noted).
        licence, source: by language.
        templates: ``pair`` is the default; ``paper`` what the paper's notebooks built.
        parts: finds and reads the rows: ``(spec, language, data_home) -> Parts``.
        group: column whose equal values stay together in a split (a premise, a passage).
        clustered: rows of one group depend on one another so much that intervals come from
            resampling whole groups (answers to questions on one passage).
        question: of an answer set: column that names the question that a row is one answer to.
        aliases: other spellings of labels that published files use.
    """

    name: str
    title: str
    kind: Kind
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    metric: str
    languages: tuple[str, ...]
    licence: Mapping[str, str]
    source: Mapping[str, str]
    templates: Mapping[str, Template]
    parts: Callable[[TaskSpec, str, Path | None], Parts]
    id: str = "id"
    label: str = "label"
    group: str | None = None
    clustered: bool = False
    question: str | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
