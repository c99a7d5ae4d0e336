"""A translation's test sentences, translated by a study's run and written as SloBench takes
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paretune.analysis.run_selection import SelectedRun
from paretune.contrib.slobench import translation_zip
from paretune.contrib.slobench.nltk_crash import make_readable
from paretune.contrib.slobench.submission import (
    Submission,
    check_packaging,
    open_submission,
    raise_for_errors,
)
from paretune.contrib.slobench.submission_card import SubmittedTask, list_notes
from paretune.data.finding import Finding
from paretune.errors import DataError
from paretune.exporting.predict import translate_sentences
from paretune.planning.context import StudyContext
from paretune.reporting.text.formatting import pluralise


@dataclass(frozen=True)
class TranslationRequest:
    """A translation task to be answered.

    Attributes:
        name: the study's name of the task.
        by: the run that translates.
        sources: the sentences of SloBench's source.
    """

    name: str
    by: SelectedRun
    sources: list[str]

    @property
    def file(self) -> str:
        """The zip's name."""
        return f"{self.name}.zip"


def prepare_translation(name: str, by: SelectedRun, source: Submission) -> TranslationRequest:
    """Read the sentences to translate.

    Raises:
        DataError: the source is not one file of text, or one of its lines is empty, for which
            nothing could be written.
    """
    lines = translation_zip.read_segments(source)
    empty = [number for number, line in enumerate(lines, 1) if not line.strip()]
    if empty:
        raise DataError(
            f"{pluralise(len(empty), 'line')} empty (the first is line {empty[0]}).",
            where=str(source.path),
            remedy="A submission has a line for each line of the source, and none is empty.",
        )
    return TranslationRequest(name, by, lines)


def answer_translation(
    request: TranslationRequest, context: StudyContext, weights: bytes | None
) -> tuple[list[str], SubmittedTask]:
    """The translations, and their entry in the card.

    SloBench refuses a submission with an empty line or with a line that begins with the end of a
    sentence. So an empty translation is replaced by its source, and such a line is changed.
    """
    run = request.by.record.run
    dataset = context.dataset(run.task)
    translated = translate_sentences(run, dataset, request.sources, context, weights)
    texts = [" ".join(text.split()) for text in translated.texts]
    empty = [number for number, text in enumerate(texts, 1) if not text]
    texts = [text or " ".join(request.sources[i].split()) for i, text in enumerate(texts)]
    notes = list(list_notes(request.by, cut=translated.cut, rows=len(texts), constant=None))
    if empty:
        some = ", ".join(map(str, empty[:5])) + (" ..." if len(empty) > 5 else "")
        count = pluralise(len(empty), "translation")
        notes.append(f"{count} empty, where the source stands instead (line {some}).")
    safe = [make_readable(text) for text in texts]
    notes += [
        f"Line {number} began with the end of a sentence, where SloBench's NLTK stops: \""
        f'{before[:40]}" was written as "{after[:40]}".'
        for number, (before, after) in enumerate(zip(texts, safe, strict=True), 1)
        if before != after
    ]
    return safe, SubmittedTask(request.name, request.file, len(safe), request.by, tuple(notes))


def write_translation(path: Path, texts: Sequence[str], source: Submission) -> list[Finding]:
    """Write the zip, read it back as SloBench does, and return the warnings.

    Raises:
        DataError: SloBench would refuse it.
    """
    submission = open_submission(translation_zip.write_translations(path, texts))
    read_back, faults = translation_zip.read_translations(submission, source)
    findings = [*check_packaging(submission), *faults]
    if read_back != list(texts) and not findings:
        findings.append(Finding("error", "read-back", path.name, "holds other lines.", ""))
    raise_for_errors(findings)
    return findings
