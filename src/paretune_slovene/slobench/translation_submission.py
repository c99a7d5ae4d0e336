"""A translation's test sentences, translated by a study's run, as SloBench takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paretune.analysis.run_selection import SelectedRun
from paretune.data.example import Example
from paretune.data.finding import Finding, summarise_by_code
from paretune.errors import DataError
from paretune.exporting.restore import predict
from paretune.files import make_file_name
from paretune.terminal.plural import pluralise
from paretune.training.caches import ProcessCache
from paretune_slovene.slobench.nltk_ngrams import crashes_slobench, make_readable
from paretune_slovene.slobench.submission import (
    Submission,
    open_submission,
    raise_unless_read_back,
    read_lines,
    write_zip,
)
from paretune_slovene.slobench.submission_card import SubmittedTask, list_notes

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
    names = [file.name for file in submission.files]
    findings = [
        Finding("error", "litter", f"{submission.path.name}::{name}", "was left by the system.",
                "Leave it out (zip -X on macOS): SloBench refuses all but exactly one file.")
        for name in submission.litter
    ]  # fmt: skip
    if len(names) != 1 or "/" in names[0]:
        what = f"holds {', '.join(names) or 'no file'}; SloBench takes exactly one, at the root."
        remedy = "Zip the one file of translations and nothing else."
        findings.append(Finding("error", "one-file", submission.path.name, what, remedy))
    if len(names) != 1:
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
    return write_zip(path, {NAME: "".join(f"{line}\n" for line in translations)})


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


def answer_translation(
    name: str,
    sources: Sequence[str],
    by: SelectedRun,
    caches: ProcessCache,
    weights: bytes | None,
) -> tuple[list[str], SubmittedTask]:
    """The translations, and their entry in the card.

    SloBench refuses a submission with an empty line or with a line that begins with the end of a
    sentence. So an empty translation is replaced by its source, and such a line is changed.
    """
    run = by.record.run
    dataset = caches.dataset(run.task)
    examples = [
        Example(f"line {i}", ((source, None),), None, f"line {i}")
        for i, source in enumerate(sources, 1)
    ]
    translations, cut = predict(run, dataset, examples, caches, weights)
    texts = [" ".join(text.split()) for text in translations]
    empty = [number for number, text in enumerate(texts, 1) if not text]
    texts = [text or " ".join(sources[i].split()) for i, text in enumerate(texts)]
    notes = list(list_notes(by, cut=cut, rows=len(texts), constant=None))
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
    file = f"{make_file_name(name)}.zip"
    return safe, SubmittedTask(name, file, len(safe), by, tuple(notes))


def write_translation(path: Path, texts: Sequence[str], source: Submission) -> list[Finding]:
    """Write the zip, read it back as SloBench does, and return the warnings.

    Raises:
        DataError: SloBench would refuse it.
    """
    submission = open_submission(write_translations(path, texts))
    read_back, faults = read_translations(submission, source)
    return raise_unless_read_back(submission, faults, same=read_back == list(texts))
