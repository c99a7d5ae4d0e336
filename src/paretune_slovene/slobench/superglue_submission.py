"""SloBench's six tasks in a study, and their test rows in its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paretune.data.example import Dataset
from paretune.errors import DataError, StudyError, spell_option
from paretune.study import Study, TaskSpec
from paretune_slovene.slobench import superglue_zip
from paretune_slovene.slobench.official_scores import LABELS, Key
from paretune_slovene.slobench.submission import Submission

NAME = "superglue.zip"
NAMES = {name.lower(): name for name in LABELS}
"""SloBench's six tasks by the names of the built-in ones."""
LANGUAGE = "sl"


def find_superglue_tasks(study: Study) -> dict[str, list[TaskSpec]]:
    """The study's tasks that SloBench has, by SloBench's name and in its order."""
    tasks: dict[str, list[TaskSpec]] = {}
    for spec in sorted(study.tasks, key=lambda spec: [*NAMES, spec.name].index(spec.name)):
        if is_superglue_task(spec):
            tasks.setdefault(NAMES[spec.name], []).append(spec)
    return tasks


def is_superglue_task(spec: TaskSpec) -> bool:
    """Whether SloBench has it."""
    return spec.name in NAMES and not spec.has_own_data and spec.language in (None, LANGUAGE)


def check_all_tasks(study: Study, specs: Mapping[str, Sequence[TaskSpec]]) -> None:
    """Check that all six tasks are there: SloBench refuses a submission without one of them.

    Raises:
        StudyError: names the missing ones.
    """
    missing = [name for name, slobench_name in NAMES.items() if slobench_name not in specs]
    if missing:
        entries = ", ".join(f"{{name: {name}, language: {LANGUAGE}}}" for name in missing)
        raise StudyError(
            f"has {len(NAMES) - len(missing)} of the six tasks that a submission answers; it lacks "
            f"{', '.join(missing)}.",
            where=f"study {study.study}",
            remedy=f"Add to its tasks {entries}, and run it again: finished runs stay.",
        )


def common_source(specs: Mapping[str, Sequence[TaskSpec]]) -> Path | None:
    """The folder from which all tasks are read; None: the downloaded one.

    Raises:
        StudyError: there are several.
    """
    sources = {spec.source for variants in specs.values() for spec in variants}
    if len(sources) > 1:
        raise StudyError(
            "its tasks are read from several folders.",
            where="the release to answer",
            remedy="Name the one that SloBench asks for: "
            f"{spell_option('release', 'PATH')} of qa_test.zip.",
        )
    (source,) = sources
    return None if source is None else Path(source)


def match_rows(task: str, dataset: Dataset, release: Submission) -> list[Key]:
    """The release's row of each unlabelled example of the dataset, in their order.

    Raises:
        DataError: the examples are not the rows of the release, all of them, each once.
    """
    rows = set(superglue_zip.read_rows(release, task))
    numbers = [example.uid.partition(":")[2] for example in dataset.unlabelled]
    keys = [_parse_key(number) for number in numbers]
    if set(keys) != rows or len(keys) != len(rows):
        extra = len(keys) - len(rows.intersection(keys))
        raise DataError(
            f"{len(rows.difference(keys))} of {len(rows)} rows are not in the study's data, and "
            f"{extra} of the data are not in the release.",
            where=f"{task}.jsonl of the release, task {dataset.task}",
            remedy="Every row needs an answer: give the task the source of this release, "
            f"or name the release that it was read from: {spell_option('release', 'PATH')}.",
        )
    return keys


def _parse_key(number: str) -> Any:
    """``7``, or ``0/3/11`` of MultiRC; text where it is no idx of a release (``7#12``)."""
    parts = tuple(int(part) if part.isdecimal() else part for part in number.split("/"))
    return parts if len(parts) > 1 else parts[0]
