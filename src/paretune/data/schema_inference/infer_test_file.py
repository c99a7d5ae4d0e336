"""Find the test file beside a train file, and say of files called like one why they are not it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paretune.data.columns import parse_numbers
from paretune.data.formats.read import read_declared_labels, read_rows
from paretune.data.formats.row import Row
from paretune.data.label_set import decode_label_ids
from paretune.data.labels import cell_text, match_label
from paretune.errors import DataError

_VALIDATION_NAMES = ("validation", "valid", "val", "dev")
NO_TEST = "none"
"""In the place of a test file: some of train is held out, whatever lies in the folder."""
_SELECTION = "a fifth of train chooses learning rates and checkpoints"
HELD_OUT = "a fifth of train is held out for the test"


@dataclass(frozen=True)
class UsedColumns:
    """What a test file must have: the columns that the task reads, and no other labels.

    Attributes:
        label: of the columns, the one with the answers; they may be ``numbers``.
        labels: empty where any answer will do.
    """

    columns: Sequence[str]
    label: str
    labels: Sequence[str] = ()
    numbers: bool = False

    def exists(self, path: Path) -> bool:
        """Whether there is such a file."""
        return path.is_file()

    def find_misfit(self, path: Path) -> str:
        """Why a file is no test file of the task, as the end of a sentence; empty if it is one."""
        try:
            rows = read_rows(path)
        except DataError as error:
            return str(error).rstrip(".")
        present = {name for row in rows for name in row.values}
        if absent := [name for name in self.columns if name not in present]:
            return f'it has no column "{absent[0]}"'
        rows = decode_label_ids(rows, self.label, read_declared_labels(path, self.label))
        answers = [row.values.get(self.label) for row in rows]
        if all(cell_text(answer) is None for answer in answers):
            return "it has no labels"
        if self.numbers and parse_numbers(answers) is None:
            return f'"{self.label}" holds no numbers'
        if self.labels and (strangers := self._count_strange_labels(rows)):
            label, count = strangers.most_common(1)[0]
            several = f", the first of {len(strangers)} such labels" if len(strangers) > 1 else ""
            return f'train has no label "{label}" ({count} of its {len(rows)} rows{several})'
        return ""

    def _count_strange_labels(self, rows: Sequence[Row]) -> Counter[str]:
        answers = Counter(cell_text(row.values.get(self.label)) for row in rows)
        return Counter(
            {
                text: count
                for text, count in answers.items()
                if text is not None and match_label(text, self.labels) is None
            }
        )


@dataclass(frozen=True)
class LanguageFiles:
    """The same of plain text, which has one file for each language."""

    languages: Sequence[str]

    def exists(self, stem: Path) -> bool:
        """Whether there is a file of any language."""
        return len(self._list_missing(stem)) < len(self.languages)

    def find_misfit(self, stem: Path) -> str:
        """Why the files of a stem are no test; empty if they are one."""
        return "".join(f"there is no {name}" for name in self._list_missing(stem)[:1])

    def _list_missing(self, stem: Path) -> list[str]:
        names = [f"{stem.name}.{language}" for language in self.languages]
        return [name for name in names if not stem.with_name(name).is_file()]


def find_test_file(
    train: Path, used: UsedColumns | LanguageFiles, test: str | None = None
) -> tuple[Path | None, str, tuple[str, ...]]:
    """The test file in the folder of train, named as train with test, validation or dev.

    Args:
        train: a file, or the stem of two.
        used: what the task reads.
        test: what the user says: a file, or :data:`NO_TEST`; None: what is there.

    Returns:
        The file, or None; why; and a sentence on each file that the user should know of.

    Raises:
        DataError: the file that the user names does not fit.
    """
    if test == NO_TEST:
        return None, f"--test {NO_TEST}: {HELD_OUT}", ()
    if test is not None:
        if misfit := used.find_misfit(Path(test)):
            raise DataError(
                f"cannot be the test file: {misfit}.",
                where=test,
                remedy=f"Name another file, or --test {NO_TEST}: {HELD_OUT}.",
            )
        return Path(test), "as you said", ()
    chosen: Path | None = None
    remarks = []
    for word in ("test", *_VALIDATION_NAMES):
        name = train.name.replace("train", word) if "train" in train.name else word + train.suffix
        candidate = train.with_name(name)
        if candidate == train or not used.exists(candidate):
            continue
        if chosen is not None:
            remarks.append(f"{name} is not used: {chosen.name} is the test, and {_SELECTION}.")
        elif misfit := used.find_misfit(candidate):
            remarks.append(f"{name} is not used: {misfit}.")
        else:
            chosen = candidate
            part = f"the test (and {_SELECTION})" if word != "test" else "the test"
            remarks.append(
                f"{name} in the same folder is taken as {part}; --test {NO_TEST} leaves it out."
            )
    if chosen is None:
        return None, f"no test file that fits: {HELD_OUT}", tuple(remarks)
    return chosen, "found in the same folder", tuple(remarks)
