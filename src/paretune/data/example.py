"""A dataset of examples: a plain frozen value; groups and keys of examples."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from paretune import objectives
from paretune.data.finding import Finding
from paretune.objectives import Objective
from paretune.objectives.example import Example
from paretune.objectives.prompt import Prompt
from paretune.study import digest
from paretune.terminal.plural import pluralise


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A task's examples. ``labels`` of a multiple choice are ``"0"``, ``"1"``, ...; a regression
    has one, the name of what is to be found; a translation has none, but ``languages``, from
    which into which. ``features`` are the names of a table's columns.

    ``shifted`` is a second test part, from elsewhere than ``test``; it is scored beside it.
    ``unlabelled`` are rows without labels, which are never scored: those published so (SloBench's
    test files), which are no part of the content hash, or a user's, which all final runs answer
    (``predicts_unlabelled``). ``findings`` were made while building; see
    :func:`paretune.data.audit.audit` for the rest. ``clustered``: examples of one group
    depend on one another, so that the analysis counts whole groups (passages, texts, and groups
    that a user named). A part whose groups have one example each has none that matter.
    """

    task: str
    kind: str
    labels: tuple[str, ...]
    train: tuple[Example, ...]
    test: tuple[Example, ...]
    shifted: tuple[Example, ...] = ()
    unlabelled: tuple[Example, ...] = ()
    predicts_unlabelled: bool = False
    metric: str
    language: str | None
    licence: str
    source: str
    findings: tuple[Finding, ...] = ()
    features: tuple[str, ...] = ()
    clustered: bool = False
    languages: tuple[str, ...] = ()
    prompt: Prompt | None = None

    @cached_property
    def objective(self) -> Objective:
        """The objective of the task's kind, for these labels."""
        objective = objectives.get(self.kind)
        bind = objective.for_labels
        return objective if bind is None else bind(objective, self.labels)

    @cached_property
    def content_hash(self) -> str:
        """Sha256 over kind, label names, uids, texts, labels and groups, not over places."""
        return digest(
            {
                "kind": self.kind,
                "labels": self.labels,
                "train": _hashed_values(self.train),
                "test": _hashed_values(self.test),
                **({"shifted": _hashed_values(self.shifted)} if self.shifted else {}),
                **({"languages": self.languages} if self.languages else {}),
                **(
                    {"unlabelled": _hashed_values(self.unlabelled)}
                    if self.predicts_unlabelled
                    else {}
                ),
            }
        )


def _hashed_values(examples: Iterable[Example]) -> list[list[object]]:
    return [
        [
            *(e.uid, e.segments, e.label, e.group),
            *([e.features] if e.features else []),
            *([e.question] if e.question is not None else []),
            *([["target", e.target]] if e.target is not None else []),
            *([["messages", e.messages]] if e.messages else []),
        ]
        for e in examples
    ]


def dependence_groups(examples: Sequence[Example], *, clustered: bool) -> dict[str, list[int]]:
    """Number the examples that belong together, in the order of their first appearance.

    There is a ``cluster`` where examples of one group depend on one another and some group has more
    than one of them, and a ``question`` where they are answers to questions.
    """
    groups = {}
    if clustered and count_groups(examples) < len(examples):
        groups["cluster"] = _number_groups([e.group or f"{e.uid} alone" for e in examples])
    if any(e.question is not None for e in examples):
        groups["question"] = _number_groups([e.question or f"{e.uid} alone" for e in examples])
    return groups


def describe_groups(dataset: Dataset, examples: Sequence[Example]) -> str:
    """`` in 10 groups`` where a part's intervals come from whole groups, otherwise nothing."""
    count = count_groups(examples)
    grouped = dataset.clustered and count < len(examples)
    return f" in {pluralise(count, 'group')}" if grouped else ""


def count_groups(examples: Sequence[Example]) -> int:
    """How many groups there are; an example without one is its own."""
    alone = sum(e.group is None for e in examples)
    return alone + len({e.group for e in examples if e.group is not None})


def _number_groups(names: Sequence[str]) -> list[int]:
    numbers: dict[str, int] = {}
    return [numbers.setdefault(name, len(numbers)) for name in names]


def normalise_text(text: str) -> str:
    """Text in NFKC, without case, every run of white space one blank."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_key(example: Example) -> tuple[str, ...]:
    """The whole input of an example, normalised; equal keys are duplicates."""
    return tuple(
        normalise_text(text) for pair in example.segments for text in pair if text is not None
    )
