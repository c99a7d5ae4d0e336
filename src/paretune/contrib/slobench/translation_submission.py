"""A translation's test sentences, translated by a study's run and written as SloBench wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paretune.analysis.run_selection import SelectedRun
from paretune.contrib.slobench import translation_zip
from paretune.contrib.slobench.submission import Submission, check_packaging, open_submission
from paretune.contrib.slobench.submission_card import SubmittedTask, list_notes
from paretune.data.finding import Finding, raise_for_findings
from paretune.errors import DataError
from paretune.exporting.predict import translate_sentences
from paretune.metrics.nltk_words import make_readable
from paretune.planning.context import StudyContext
from paretune.reporting.text.formatting import pluralise


@dataclass(frozen=True)
class TranslationRequest:
    """A translation task: the run that translates, and the sentences of SloBench's source."""

    name: str
    by: SelectedRun
    sources: list[str]

    @property
    def file(self) -> str:
        """The zip's name."""
        return f"{self.name}.zip"


def prepare_translation(name: str, by: SelectedRun, source: Submission) -> TranslationRequest:
    """What one task asks for.

    Raises:
        DataError: the source is not one file of text, or one of its lines is empty: what would be
            written in its place?
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
    task: TranslationRequest, context: StudyContext, weights: bytes | None
) -> tuple[list[str], SubmittedTask]:
    """The translations, and what is to be told of them.

    An empty translation would make SloBench refuse the whole, so its source stands there; so would
    a line that begins with the end of a sentence, which is mended.
    """
    run = task.by.record.run
    given = translate_sentences(run, context.dataset(run.task), task.sources, context, weights)
    texts = [" ".join(text.split()) for text in given.texts]
    empty = [number for number, text in enumerate(texts, 1) if not text]
    texts = [text or " ".join(task.sources[i].split()) for i, text in enumerate(texts)]
    said = list_notes(task.by, cut=given.cut, rows=len(texts), constant=None)
    if empty:
        some = ", ".join(map(str, empty[:5])) + (" ..." if len(empty) > 5 else "")
        what = pluralise(len(empty), "translation")
        said = (*said, f"{what} empty, where the source stands instead (line {some}).")
    safe = [make_readable(text) for text in texts]
    said += tuple(
        f"Line {number} began with the end of a sentence, where SloBench's NLTK stops: \""
        f'{before[:40]}" was written as "{after[:40]}".'
        for number, (before, after) in enumerate(zip(texts, safe, strict=True), 1)
        if before != after
    )
    return safe, SubmittedTask(task.name, task.file, len(safe), task.by, said)


def write_translation(path: Path, texts: Sequence[str], source: Submission) -> list[Finding]:
    """Write the zip, and read it back as SloBench would; the warnings.

    Raises:
        DataError: it would be refused.
    """
    submission = open_submission(translation_zip.write_translations(path, texts))
    read, found = translation_zip.read_translations(submission, source)
    found = [*check_packaging(submission), *found]
    if read != list(texts) and not found:
        found.append(Finding("error", "read-back", path.name, "holds other lines.", ""))
    raise_for_findings([finding for finding in found if finding.severity == "error"])
    return found
