"""A translation's test sentences, translated by a study's run, as SloBench takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paretune.data.finding import Finding, summarise_by_code
from paretune.errors import DataError
from paretune.terminal.plural import pluralise
from paretune_slovene.slobench.nltk_ngrams import crashes_slobench, make_readable
from paretune_slovene.slobench.submission import Submission, check_files, read_lines, write_zip

NAME = "translation.txt"


def read_translations(
    submission: Submission, release: Submission
) -> tuple[list[str], list[Finding]]:
    """The lines, and everything that is wrong with them.

    Args:
        release: source or reference: one file with as many lines.

    Raises:
        DataError: the release is not one file of text.
    """
    num_segments = len(read_segments(release))
    findings = check_files(submission)
    if len(submission.files) != 1:
        return [], findings
    lines, faults = read_lines(submission.files[0])
    where = submission.files[0].where
    for number, line in enumerate(lines, 1):
        if crashes_slobench(line):
            what = (
                "begins with the end of a sentence; NLTK 3.6.6 stops there, and SloBench refuses "
                "the whole submission."
            )
            remedy = f"Begin it otherwise: {make_readable(line)[:60]}"
            faults.append(
                Finding("error", "stops-slobench", f"{where} line {number}", what, remedy)
            )
    findings += summarise_by_code(faults)
    if len(lines) != num_segments and not any(fault.code == "not-utf-8" for fault in faults):
        what = f"has {len(lines):,} lines; the release has {num_segments:,}."
        remedy = "One line a segment, in the release's order."
        findings.append(Finding("error", "line-count", where, what, remedy))
    return lines, findings


def read_segments(release: Submission) -> list[str]:
    """The lines of the one file of a release or reference.

    Raises:
        DataError: there is not exactly one file, or it holds no text.
    """
    if len(release.files) != 1:
        names = ", ".join(file.name for file in release.files) or "nothing"
        raise DataError(
            f"holds {names}; that of a translation holds one file of text.",
            where=str(release.path),
            remedy="Name the file, or a zip with it alone.",
        )
    lines, faults = read_lines(release.files[0])
    # A release may have empty segments.
    errors = [fault for fault in faults if fault.code not in ("empty-line", "byte-order-mark")]
    if errors:
        raise DataError(errors[0].what, where=errors[0].where)
    if not lines:
        raise DataError("has no lines.", where=release.files[0].where)
    return lines


def write_translations(path: Path, translations: Sequence[str]) -> Path:
    """Write a submission; the same lines always give the same bytes.

    Args:
        path: of the zip; an existing one is replaced.
        translations: in the release's order; none empty, each one line.

    Raises:
        ValueError: one is empty, or has a line break.
        OSError: it cannot be written.
    """
    for number, line in enumerate(translations, 1):
        if not line.strip() or "\n" in line or "\r" in line:
            raise ValueError(f"translation {number} is empty or has a line break: {line!r}")
    return write_zip(path, render_translations(translations))


def render_translations(translations: Sequence[str]) -> dict[str, str]:
    """The one file of a submission."""
    return {NAME: "".join(f"{line}\n" for line in translations)}


def read_source(source: Submission) -> list[str]:
    """The sentences to translate.

    Raises:
        DataError: the source is not one file of text, or one of its lines is empty, for which
            nothing could be written.
    """
    lines = read_segments(source)
    empty = [number for number, line in enumerate(lines, 1) if not line.strip()]
    if empty:
        raise DataError(
            f"{pluralise(len(empty), 'line')} empty (the first is line {empty[0]}).",
            where=str(source.path),
            remedy="A submission has a line for each line of the source, and none is empty.",
        )
    return lines


def mend_translations(
    translations: Sequence[str], sources: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Translations as SloBench takes them, and sentences on what was changed.

    SloBench refuses a submission with an empty line or with a line that begins with the end of a
    sentence. So an empty translation is replaced by its source, and such a line is changed.
    """
    texts = [" ".join(text.split()) for text in translations]
    empty = [number for number, text in enumerate(texts, 1) if not text]
    texts = [text or " ".join(sources[i].split()) for i, text in enumerate(texts)]
    notes = []
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
    return safe, notes
