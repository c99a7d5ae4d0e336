"""The kinds of submissions: what each asks a study's run, and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from paretune.data.example import Dataset
from paretune.data.finding import Finding
from paretune.errors import StudyError, spell_option
from paretune.files import make_file_name
from paretune.objectives.example import Example
from paretune.study import TaskSpec
from paretune_slovene.slobench import (
    superglue_submission,
    superglue_zip,
    tag_submission,
    translation_submission,
)
from paretune_slovene.slobench.official_scores import LABELS
from paretune_slovene.slobench.submission import Submission, check_packaging

Kind = Literal["superglue", "translation", "ner", "pos"]


@dataclass(frozen=True)
class Questions:
    """The questions of a task.

    Attributes:
        file: the zip that its answers belong to.
        release: SloBench's release of the questions.
        examples: one for each row of the release.
        render: makes files in the zip of a run's answers, and sentences on changes.
    """

    file: str
    release: Submission
    examples: Sequence[Example]
    render: Callable[[Sequence[Any]], tuple[dict[str, str], Sequence[str]]]


def ask_superglue(task: str, dataset: Dataset, release: Submission) -> Questions:
    """The unlabelled examples of one of the six tasks, which are rows of the release.

    Raises:
        DataError: they are not all of its rows, each once.
    """
    keys = superglue_submission.match_rows(task, dataset, release)

    def render(labels: Sequence[int]) -> tuple[dict[str, str], Sequence[str]]:
        # The built-in tasks have their labels in SloBench's order.
        answers = {key: LABELS[task][i] for key, i in zip(keys, labels, strict=True)}
        distinct = set(answers.values())
        notes = [f"Every row got the same answer, {min(distinct)}."] if len(distinct) == 1 else []
        return {superglue_zip.FILES[task]: superglue_zip.render_answers(task, answers)}, notes

    return Questions(superglue_submission.NAME, release, dataset.unlabelled, render)


def ask_source(spec: TaskSpec, dataset: Dataset, source: Submission) -> Questions:
    """The lines of a source that a task translates, or the sentences of which it tags the words.

    Raises:
        StudyError: the task does not answer such a source.
        DataError: the source cannot be read.
    """
    kind, tags, column = find_kind(source), dataset.objective.reader == "tags", None
    if tags and kind in tag_submission.COLUMNS:
        column = tag_submission.choose_column(kind, spec.label, dataset.labels)
    if (tags and column is None) or (not tags and kind != "translation"):
        raise StudyError(
            f"does not answer {source.path.name}.",
            where=f"task {spec.key}",
            remedy=f"{spell_option('source')} is a file of text for a translation, *.conll2002 for "
            "tags of names (O, B-X, I-X), and one *.conllu for UPOS or XPOS.",
        )
    reader = tag_submission.read_words if column else translation_submission.read_source
    texts = reader(source)

    def render(answers: Sequence[str]) -> tuple[dict[str, str], Sequence[str]]:
        if column:
            return tag_submission.render_tags(source, answers, column)
        lines, notes = translation_submission.mend_translations(answers, texts)
        return translation_submission.render_translations(lines), notes

    examples = [
        Example(f"line {i}", ((text, None),), None, f"line {i}") for i, text in enumerate(texts, 1)
    ]
    return Questions(f"{make_file_name(spec.key)}.zip", source, examples, render)


class Reading(NamedTuple):
    """The answers of a submission, and its faults.

    Attributes:
        answers: by task of SuperGLUE or by column of tags; lines of a translation.
        counts: number of answers by file, or of lines or of words with a tag.
        findings: all faults, those of the zip first.
    """

    kind: Kind
    answers: Any
    counts: dict[str, int]
    findings: tuple[Finding, ...]


def find_kind(release: Submission) -> Kind:
    """SuperGLUE if any of its six files is there; words with tags by the endings of the files."""
    if not {file.name for file in release.files}.isdisjoint(superglue_zip.FILES.values()):
        return "superglue"
    return tag_submission.find_tag_kind(release) or "translation"


def read_submission(submission: Submission, release: Submission) -> Reading:
    """A submission read as SloBench reads it.

    Raises:
        DataError: the release cannot be read.
    """
    kind = find_kind(release)
    answers: Any
    if kind == "superglue":
        answers, faults = superglue_zip.read_answers(submission, release)
        counts = {task: len(answers[task]) for task in answers}
    elif kind == "translation":
        answers, faults = translation_submission.read_translations(submission, release)
        counts = {"lines": len(answers)}
    else:
        answers, faults = tag_submission.read_tags(submission, release)
        counts = {
            name: sum(tag != "_" for tags in texts for tag in tags.split())
            for name, texts in answers.items()
        }
    return Reading(kind, answers, counts, (*check_packaging(submission), *faults))
