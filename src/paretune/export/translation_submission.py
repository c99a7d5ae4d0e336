"""A translation's test sentences, translated by a study's run and written as SloBench wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paretune.analysis.selected import Selected
from paretune.data.finding import Finding, refuse
from paretune.errors import DataError
from paretune.export import translation_zip
from paretune.export.answers import translated
from paretune.export.submission import Submission, opened, packing
from paretune.export.submission_card import Part, notes
from paretune.metrics.words import mended
from paretune.planning.context import Context
from paretune.report import words


@dataclass(frozen=True)
class Asked:
    """A translation task: the run that translates, and the sentences of SloBench's source."""

    name: str
    by: Selected
    sources: list[str]

    @property
    def file(self) -> str:
        """The zip's name."""
        return f"{self.name}.zip"


def asked(name: str, by: Selected, source: Submission) -> Asked:
    """What one task asks for.

    Raises:
        DataError: the source is not one file of text, or one of its lines is empty: what would be
            written in its place?
    """
    lines = translation_zip.segments(source)
    empty = [number for number, line in enumerate(lines, 1) if not line.strip()]
    if empty:
        raise DataError(
            f"{words.counted(len(empty), 'line')} empty (the first is line {empty[0]}).",
            where=str(source.path),
            remedy="A submission has a line for each line of the source, and none is empty.",
        )
    return Asked(name, by, lines)


def translate(task: Asked, context: Context, weights: bytes | None) -> tuple[list[str], Part]:
    """The translations, and what is to be told of them.

    An empty translation would make SloBench refuse the whole, so its source stands there; so would
    a line that begins with the end of a sentence, which is mended.
    """
    run = task.by.record.run
    given = translated(run, context.dataset(run.task), task.sources, context, weights)
    texts = [" ".join(text.split()) for text in given.texts]
    empty = [number for number, text in enumerate(texts, 1) if not text]
    texts = [text or " ".join(task.sources[i].split()) for i, text in enumerate(texts)]
    said = notes(task.by, cut=given.cut, rows=len(texts), constant=None)
    if empty:
        some = ", ".join(map(str, empty[:5])) + (" ..." if len(empty) > 5 else "")
        what = words.counted(len(empty), "translation")
        said = (*said, f"{what} empty, where the source stands instead (line {some}).")
    safe = [mended(text) for text in texts]
    said += tuple(
        f"Line {number} began with the end of a sentence, where SloBench's NLTK stops: \""
        f'{before[:40]}" was written as "{after[:40]}".'
        for number, (before, after) in enumerate(zip(texts, safe, strict=True), 1)
        if before != after
    )
    return safe, Part(task.name, task.file, len(safe), task.by, said)


def write(path: Path, texts: Sequence[str], source: Submission) -> list[Finding]:
    """Write the zip, and read it back as SloBench would; the warnings.

    Raises:
        DataError: it would be refused.
    """
    submission = opened(translation_zip.write_lines(path, texts))
    read, found = translation_zip.read(submission, source)
    found = [*packing(submission), *found]
    if read != list(texts) and not found:
        found.append(Finding("error", "read-back", path.name, "holds other lines.", ""))
    refuse([finding for finding in found if finding.severity == "error"])
    return found
