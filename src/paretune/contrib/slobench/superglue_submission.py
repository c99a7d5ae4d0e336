"""SuperGLUE's test rows answered by a study's runs, and written as SloBench takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from paretune.analysis.run_selection import SelectedRun
from paretune.contrib.slobench import superglue_rows, superglue_zip
from paretune.contrib.slobench.official_scores import Answers, Key
from paretune.contrib.slobench.submission import Submission, check_packaging, open_submission
from paretune.contrib.slobench.submission_card import SubmittedTask, list_notes
from paretune.data.example import Dataset
from paretune.data.finding import Finding, raise_for_findings
from paretune.exporting.predict import predict_labels
from paretune.planning.context import StudyContext

NAME = "superglue.zip"


@dataclass(frozen=True)
class SuperglueRequest:
    """One of the six tasks: the run that answers, and the row that each unlabelled example is."""

    name: str
    by: SelectedRun
    dataset: Dataset
    rows: list[Key]


def prepare_superglue(
    name: str, by: SelectedRun, release: Submission, context: StudyContext
) -> SuperglueRequest:
    """What one task asks for.

    Raises:
        DataError: the release has other rows than the study's data.
    """
    dataset = context.dataset(by.record.run.task)
    rows = superglue_rows.match_rows(name, dataset, superglue_zip.read_rows(release, name))
    return SuperglueRequest(name, by, dataset, rows)


def answer_superglue(
    task: SuperglueRequest, context: StudyContext, weights: bytes | None
) -> tuple[Answers, SubmittedTask]:
    """The answers to one task, and what is to be told of them."""
    run, examples = task.by.record.run, task.dataset.unlabelled
    given = predict_labels(run, task.dataset, examples, context, weights)
    answers = superglue_rows.spell_labels(task.name, task.rows, given.labels)
    one = str(next(iter(answers.values()))) if len(set(answers.values())) == 1 else None
    said = list_notes(task.by, cut=given.cut, rows=len(answers), constant=one)
    return answers, SubmittedTask(task.name, NAME, len(answers), task.by, said)


def write_superglue(
    folder: Path, answers: Mapping[str, Answers], release: Submission
) -> list[Finding]:
    """Write the zip, and read it back as SloBench would; the warnings.

    Raises:
        DataError: it would be refused.
    """
    path = superglue_zip.write_answers(folder / NAME, answers)
    submission = open_submission(path)
    read, found = superglue_zip.read_answers(submission, release)
    found = [*check_packaging(submission), *found]
    if read != answers and not found:
        found.append(Finding("error", "read-back", NAME, "holds other answers.", ""))
    raise_for_findings([finding for finding in found if finding.severity == "error"])
    return found
