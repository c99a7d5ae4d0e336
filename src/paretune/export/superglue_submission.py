"""SuperGLUE's test rows answered by a study's runs, and written as SloBench takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from paretune.analysis.selected import Selected
from paretune.data.example import Dataset
from paretune.data.finding import Finding, refuse
from paretune.export import superglue_answers, superglue_zip
from paretune.export.answers import answered
from paretune.export.submission import Submission, opened, packing
from paretune.export.submission_card import Part, notes
from paretune.metrics.slobench import Answers, Key
from paretune.planning.context import Context

NAME = "superglue.zip"


@dataclass(frozen=True)
class Asked:
    """One of the six tasks: the run that answers, and the row that each unlabelled example is."""

    name: str
    by: Selected
    dataset: Dataset
    rows: list[Key]


def asked(name: str, by: Selected, release: Submission, context: Context) -> Asked:
    """What one task asks for.

    Raises:
        DataError: the release has other rows than the study's data.
    """
    dataset = context.dataset(by.record.run.task)
    rows = superglue_answers.keys(name, dataset, superglue_zip.rows(release, name))
    return Asked(name, by, dataset, rows)


def answer(task: Asked, context: Context, weights: bytes | None) -> tuple[Answers, Part]:
    """The answers to one task, and what is to be told of them."""
    run, examples = task.by.record.run, task.dataset.unlabelled
    given = answered(run, task.dataset, examples, context, weights)
    answers = superglue_answers.spelled(task.name, task.rows, given.labels)
    one = str(next(iter(answers.values()))) if len(set(answers.values())) == 1 else None
    said = notes(task.by, cut=given.cut, rows=len(answers), constant=one)
    return answers, Part(task.name, NAME, len(answers), task.by, said)


def write(folder: Path, answers: Mapping[str, Answers], release: Submission) -> list[Finding]:
    """Write the zip, and read it back as SloBench would; the warnings.

    Raises:
        DataError: it would be refused.
    """
    path = superglue_zip.write_answers(folder / NAME, answers)
    submission = opened(path)
    read, found = superglue_zip.read(submission, release)
    found = [*packing(submission), *found]
    if read != answers and not found:
        found.append(Finding("error", "read-back", NAME, "holds other answers.", ""))
    refuse([finding for finding in found if finding.severity == "error"])
    return found
