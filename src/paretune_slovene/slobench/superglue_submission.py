"""SuperGLUE's test rows answered by a study's runs, and written as SloBench takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from paretune.analysis.run_selection import SelectedRun
from paretune.data.example import Dataset
from paretune.data.finding import Finding
from paretune.errors import DataError, StudyError
from paretune.exporting.restore import predict
from paretune.study import Study, TaskSpec
from paretune.training.caches import ProcessCache
from paretune_slovene.slobench import superglue_zip
from paretune_slovene.slobench.official_scores import LABELS, Answers, Key
from paretune_slovene.slobench.submission import (
    Submission,
    open_submission,
    raise_unless_read_back,
)
from paretune_slovene.slobench.submission_card import SubmittedTask, list_notes

NAME = "superglue.zip"


def answer_superglue(
    name: str, rows: Sequence[Key], by: SelectedRun, caches: ProcessCache, weights: bytes | None
) -> tuple[Answers, SubmittedTask]:
    """The answers to the unlabelled examples of one task, and its entry in the card.

    Args:
        rows: of the release, in the order of the examples (:func:`match_rows`).
    """
    run = by.record.run
    dataset = caches.dataset(run.task)
    labels, cut = predict(run, dataset, dataset.unlabelled, caches, weights)
    # The built-in tasks have their labels in SloBench's order.
    answers = {key: LABELS[name][label] for key, label in zip(rows, labels, strict=True)}
    distinct = set(answers.values())
    constant = str(distinct.pop()) if len(distinct) == 1 else None
    notes = list_notes(by, cut=cut, rows=len(answers), constant=constant)
    return answers, SubmittedTask(name, NAME, len(answers), by, notes)


def write_superglue(
    folder: Path, answers: Mapping[str, Answers], release: Submission
) -> list[Finding]:
    """Write the zip, read it back as SloBench does, and return the warnings.

    Raises:
        DataError: SloBench would refuse it.
    """
    submission = open_submission(superglue_zip.write_answers(folder / NAME, answers))
    read_back, faults = superglue_zip.read_answers(submission, release)
    return raise_unless_read_back(submission, faults, same=read_back == answers)


NAMES = {name.lower(): name for name in LABELS}
"""SloBench's six tasks by the names of the built-in ones."""
LANGUAGE = "sl"


def find_superglue_tasks(study: Study) -> dict[str, list[TaskSpec]]:
    """The study's tasks that SloBench has, by SloBench's name and in its order."""
    tasks: dict[str, list[TaskSpec]] = {}
    for name, slobench_name in NAMES.items():
        specs = [
            spec
            for spec in study.tasks
            if spec.name == name and not spec.has_own_data and spec.language in (None, LANGUAGE)
        ]
        if specs:
            tasks[slobench_name] = specs
    return tasks


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
            remedy="Name the one that SloBench asks for: --release PATH of qa_test.zip.",
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
    keys = [_parse_key(task, number) for number in numbers]
    num_missing = len(rows - set(keys))
    unknown = [n for n, key in zip(numbers, keys, strict=True) if key not in rows]
    if num_missing or unknown or len(keys) != len(rows):
        faults = []
        if num_missing:
            faults.append(f"{num_missing} of {len(rows)} rows are not in the study's data")
        if unknown:
            faults.append(f"the study's data has {len(unknown)} others (idx {unknown[0]})")
        raise DataError(
            f"{', '.join(faults) or 'rows are repeated'}.",
            where=f"{task}.jsonl of the release, task {dataset.task}",
            remedy="Every row needs an answer: give the task the source of this release, "
            "or name the release that it was read from: --release PATH.",
        )
    return [key for key in keys if key is not None]


def _parse_key(task: str, number: str) -> Key | None:
    """``7``, or ``0/3/11`` of MultiRC; None for what is no idx of a release (``7#12``)."""
    parts = number.split("/")
    if not all(part.isdecimal() for part in parts):
        return None
    if task == "MultiRC":
        passage, question, answer = (int(part) for part in parts)
        return passage, question, answer
    return int(number)
