"""What the user says of a file's columns, and the task that is guessed from them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paretune.errors import StudyError, spell_option


@dataclass(frozen=True)
class NamedColumns:
    """Columns that the user named: label, text, second text, or both sides of a translation.

    Raises:
        StudyError: one side of a translation without the other, or another column beside them.
    """

    label: str | None = None
    text: str | None = None
    pair: str | None = None
    source: str | None = None
    target: str | None = None

    def __post_init__(self) -> None:
        both = f"{spell_option('source')} and {spell_option('target')}"
        if (self.source is None) != (self.target is None):
            raise StudyError(f"{both} go together.", remedy="Name both columns.")
        if self.source is not None and {self.label, self.text, self.pair} != {None}:
            label, text, pair = map(spell_option, ("label", "text", "pair"))
            raise StudyError(
                f"{both} name all columns of a translation.",
                remedy=f"Leave out {label}, {text} and {pair}.",
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """All that were named."""
        return tuple(name for name in vars(self).values() if name is not None)


@dataclass
class InferredTask:
    """A guess.

    Attributes:
        task: keys and values of a :class:`TaskSpec`. Paths are as passed; ``test`` is absent if no
            test file was found.
        reasons: why, by the same keys.
        uncertain: keys whose guess the user should check.
        proposals: keys that are worth a thought and not set, each with its column and why.
        remarks: sentences on what the user may not expect: of labels, and of files beside this one.
        rows_per_label: mean, where each row has one of several labels; else 0.
    """

    task: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    uncertain: list[str] = field(default_factory=list)
    proposals: dict[str, tuple[str, str]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    rows_per_label: float = 0.0

    def add(self, key: str, value: object, reason: str, *, uncertain: bool = False) -> None:
        """State one key; a value that is empty or None only has its reason."""
        if value:
            self.task[key] = value
        self.reasons[key] = reason
        if uncertain:
            self.uncertain.append(key)


def start_draft(file: Path, kind: str, reason: str, rows: str) -> InferredTask:
    """Name, kind and train, and the place of test."""
    draft = InferredTask()
    # The folder's name where the file is just called train.
    words = [w for w in re.split(r"[^A-Za-z0-9]+", file.stem) if w and w.lower() != "train"]
    words = words or [w for w in re.split(r"[^A-Za-z0-9]+", file.absolute().parent.name) if w]
    draft.add("name", "-".join(words).lower() or "my-task", "from the file's name")
    draft.add("kind", kind, reason)
    draft.add("train", str(file), rows)
    draft.add("test", str(file), "")
    return draft
