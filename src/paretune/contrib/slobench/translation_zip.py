"""A translation submission: exactly one text file in a zip, one line per segment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paretune.contrib.slobench.nltk_crash import crashes_slobench, make_readable
from paretune.contrib.slobench.submission import Submission, read_lines, write_zip
from paretune.data.finding import Finding, truncate_findings
from paretune.errors import DataError

NAME = "translation.txt"


def read_translations(
    submission: Submission, release: Submission
) -> tuple[list[str], list[Finding]]:
    """The lines, and everything that is wrong with them.

    Args:
        submission: what is handed in.
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
    for code in dict.fromkeys(fault.code for fault in faults):
        findings += truncate_findings([fault for fault in faults if fault.code == code])
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
