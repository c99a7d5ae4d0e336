"""From a study's answers to SloBench's: which row is meant, and how its label is spelled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from paretune.contrib.slobench.official_scores import LABELS, Answers, Key
from paretune.data.example import Dataset
from paretune.errors import DataError, StudyError
from paretune.study import Study, TaskSpec

NAMES = {name.lower(): name for name in LABELS}
"""SloBench's six tasks by the names of the built-in ones."""
LANGUAGE = "sl"


def find_superglue_tasks(study: Study) -> dict[str, list[TaskSpec]]:
    """The study's tasks whose test rows SloBench asks for, by SloBench's name, in its order."""
    found: dict[str, list[TaskSpec]] = {}
    for name, task in NAMES.items():
        specs = [t for t in study.tasks if t.name == name and not t.has_own_data]
        specs = [t for t in specs if t.language in (None, LANGUAGE)]
        if specs:
            found[task] = specs
    return found


def check_all_tasks(study: Study, specs: Mapping[str, Sequence[TaskSpec]]) -> None:
    """Check that all six are there: SloBench refuses five.

    Raises:
        StudyError: with those that are missing.
    """
    missing = [name for name, task in NAMES.items() if task not in specs]
    if missing:
        added = ", ".join(f"{{name: {name}, language: {LANGUAGE}}}" for name in missing)
        raise StudyError(
            f"has {6 - len(missing)} of the six tasks that a submission answers; it lacks "
            f"{', '.join(missing)}.",
            where=f"study {study.study}",
            remedy=f"Add to its tasks {added}, and run it again: what has ended stays.",
        )


def common_source(specs: Mapping[str, Sequence[TaskSpec]]) -> Path | None:
    """The folder that all tasks are read from; None: the one that was fetched.

    Raises:
        StudyError: there are several.
    """
    sources = {spec.source for variants in specs.values() for spec in variants}
    if len(sources) > 1:
        raise StudyError(
            "its tasks are read from several folders.",
            where="the release to answer",
            remedy="Name the one that SloBench asks for: --release PATH of qa_test.zip.",
        )
    (source,) = sources
    return None if source is None else Path(source)


def match_rows(task: str, dataset: Dataset, wanted: Iterable[Key]) -> list[Key]:
    """Which row of the release each of the dataset's unlabelled examples is, in their order.

    Raises:
        DataError: they are not the release's rows, all of them, each once.
    """
    rows = set(wanted)
    numbers = [example.uid.partition(":")[2] for example in dataset.unlabelled]
    found = [_parse_key(task, number) for number in numbers]
    missing = rows - set(found)
    strange = [n for n, key in zip(numbers, found, strict=True) if key not in rows]
    if missing or strange or len(found) != len(rows):
        told = [f"{len(missing)} of {len(rows)} rows are not in the study's data"] * bool(missing)
        if strange:
            told.append(f"the study's data has {len(strange)} others (idx {strange[0]})")
        raise DataError(
            f"{', '.join(told) or 'rows are repeated'}.",
            where=f"{task}.jsonl of the release, task {dataset.task}",
            remedy="Every row needs an answer: give the task the source of this release, "
            "or name the release that it was read from: --release PATH.",
        )
    return [key for key in found if key is not None]


def spell_labels(task: str, rows: Sequence[Key], labels: Sequence[int]) -> Answers:
    """Each row's label as SloBench spells it; the built-in tasks have them in the same order."""
    return {key: LABELS[task][label] for key, label in zip(rows, labels, strict=True)}


def _parse_key(task: str, number: str) -> Key | None:
    """``7``, or ``0/3/11`` of MultiRC; None where it is no idx of a release (``7#12``)."""
    parts = number.split("/")
    if not all(part.isdecimal() for part in parts):
        return None
    if task == "MultiRC":
        passage, question, answer = (int(part) for part in parts)
        return passage, question, answer
    return int(number)
