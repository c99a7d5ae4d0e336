"""SuperGLUE's test rows answered by a study's runs, and written as SloBench takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from paretune.analysis.run_selection import SelectedRun
from paretune.data.example import Dataset
from paretune.data.finding import Finding
from paretune.exporting.restore import predict
from paretune.training.caches import ProcessCache
from paretune_slovene.slobench import superglue_rows, superglue_zip
from paretune_slovene.slobench.official_scores import Answers, Key
from paretune_slovene.slobench.submission import (
    Submission,
    check_packaging,
    open_submission,
    raise_for_errors,
)
from paretune_slovene.slobench.submission_card import SubmittedTask, list_notes

NAME = "superglue.zip"


@dataclass(frozen=True)
class SuperglueRequest:
    """One of the six tasks to be answered.

    Attributes:
        dataset: its unlabelled examples are what is answered.
    """

    name: str
    by: SelectedRun
    dataset: Dataset
    rows: list[Key]


def prepare_superglue(
    name: str, by: SelectedRun, release: Submission, caches: ProcessCache
) -> SuperglueRequest:
    """Match the rows of one task with the study's data.

    Raises:
        DataError: the release has other rows than the study's data.
    """
    dataset = caches.dataset(by.record.run.task)
    rows = superglue_rows.match_rows(name, dataset, superglue_zip.read_rows(release, name))
    return SuperglueRequest(name, by, dataset, rows)


def answer_superglue(
    request: SuperglueRequest, caches: ProcessCache, weights: bytes | None
) -> tuple[Answers, SubmittedTask]:
    """The answers to one task, and its entry in the card."""
    run, examples = request.by.record.run, request.dataset.unlabelled
    labels, cut = predict(run, request.dataset, examples, caches, weights)
    answers = superglue_rows.spell_labels(request.name, request.rows, labels)
    distinct = set(answers.values())
    constant = str(distinct.pop()) if len(distinct) == 1 else None
    notes = list_notes(request.by, cut=cut, rows=len(answers), constant=constant)
    return answers, SubmittedTask(request.name, NAME, len(answers), request.by, notes)


def write_superglue(
    folder: Path, answers: Mapping[str, Answers], release: Submission
) -> list[Finding]:
    """Write the zip, read it back as SloBench does, and return the warnings.

    Raises:
        DataError: SloBench would refuse it.
    """
    submission = open_submission(superglue_zip.write_answers(folder / NAME, answers))
    read_back, faults = superglue_zip.read_answers(submission, release)
    findings = [*check_packaging(submission), *faults]
    if read_back != answers and not findings:
        findings.append(Finding("error", "read-back", NAME, "holds other answers.", ""))
    raise_for_errors(findings)
    return findings
