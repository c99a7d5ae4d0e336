"""One example, and a dataset of them: plain frozen values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from paretune.data.finding import Finding
from paretune.study import Label, digest

Segments = tuple[tuple[str, str | None], ...]
"""One ``(text, pair)`` for each choice; exactly one where there are no choices."""


@dataclass(frozen=True)
class Example:
    """One row, ready to be encoded.

    ``label`` is an index into the dataset's labels (in a regression the number itself), or None
    where the row has none. ``where`` is ``train.csv line 412``. Examples of one ``group`` never
    part in a split. ``features`` are the values behind the text of a row of a table.
    """

    uid: str
    segments: Segments
    label: Label | None
    where: str
    group: str | None = None
    features: tuple[Label | str | None, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A task's examples. ``labels`` of a multiple choice are ``"0"``, ``"1"``, ...; a regression
    has one, the name of what is to be found. ``features`` are the names of a table's columns.

    ``unlabelled`` are rows published without labels (SloBench's test files); they are never
    scored, and never part of the content hash. ``findings`` were made while building; see
    :func:`paretune.data.audit.audit` for the rest.
    """

    task: str
    kind: str
    labels: tuple[str, ...]
    train: tuple[Example, ...]
    test: tuple[Example, ...]
    unlabelled: tuple[Example, ...] = ()
    metric: str
    language: str | None
    licence: str
    source: str
    findings: tuple[Finding, ...] = ()
    features: tuple[str, ...] = ()

    @cached_property
    def content_hash(self) -> str:
        """Sha256 over kind, label names, uids, texts, labels and groups, not over places."""
        return digest(
            {
                "kind": self.kind,
                "labels": self.labels,
                "train": _plain(self.train),
                "test": _plain(self.test),
            }
        )


def _plain(examples: Iterable[Example]) -> list[list[object]]:
    return [
        [e.uid, e.segments, e.label, e.group, *([e.features] if e.features else [])]
        for e in examples
    ]
