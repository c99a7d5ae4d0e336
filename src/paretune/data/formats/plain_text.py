r"""Parallel plain text: one file for each language, line n of one belongs to line n of the other.

Lines end at ``\n`` or ``\r\n`` only: a text may hold U+2028, which ``splitlines`` would cut, and
then every line below it would be paired with the wrong one.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from paretune.data.formats.read import EXTENSIONS, list_members, read_text
from paretune.data.formats.row import Row
from paretune.errors import DataError
from paretune.files import expand_home

LanguagePair = tuple[str, str]
"""From which into which."""


def resolve_pair_files(
    train: str, target: str | None, languages: LanguagePair
) -> tuple[str, str] | None:
    """The two files that a study names, or None where it names a table.

    ``target`` names the second file itself. Without it, a ``train`` without a table's ending is a
    stem to which the languages are appended (``corpus`` for ``corpus.sl`` and ``corpus.en``, or
    ``data.zip::corpus``), and a zip without a member may hold one such pair, as OPUS publishes it.

    Raises:
        DataError: a table was given a second file, or a zip holds several pairs, or none.
    """
    outer, _, member = train.partition("::")
    zipped = PurePosixPath(outer).suffix.lower() == ".zip"
    table = PurePosixPath(member if zipped else outer).suffix.lower() in EXTENSIONS
    if target is not None:
        if table:
            raise DataError(
                "is a table, which holds both languages.",
                where=train,
                remedy="Remove the second file, or name two files of plain text.",
            )
        return train, target
    if table:
        return None
    if zipped and not member:
        inside = list_members(expand_home(outer), extensions=None)
        if any(PurePosixPath(name).suffix.lower() in EXTENSIONS for name in inside):
            return None
        member = _find_stem(outer, inside, languages)
    stem = f"{outer}::{member}" if member else outer
    source, target = f"{stem}.{languages[0]}", f"{stem}.{languages[1]}"
    if not zipped and not any(expand_home(file).is_file() for file in (source, target)):
        raise DataError(
            f"is not a table ({', '.join(EXTENSIONS)}), and there are no {Path(source).name} and "
            f"{Path(target).name}.",
            where=stem,
            remedy="Name a table, the two files without their languages' endings, or both files "
            "as train and train_target (test and test_target).",
        )
    return source, target


def read_line_pairs(source: str, target: str, columns: tuple[str, str]) -> list[Row]:
    """Rows with two columns, one for each line; the place is the line of the first file.

    Raises:
        DataError: a file is missing, empty or not UTF-8, or their lines are not equally many.
    """
    (name, first), (other, second) = (_read_lines(path) for path in (source, target))
    if len(first) != len(second):
        raise DataError(
            f"has {len(first)} lines, {other} has {len(second)}: they do not belong together "
            "line by line.",
            where=name,
            remedy="Align them again; an empty line in one must be there in the other too.",
        )
    return [
        Row(dict(zip(columns, pair, strict=True)), f"{name} line {number}")
        for number, pair in enumerate(zip(first, second, strict=True), 1)
    ]


def _read_lines(path: str) -> tuple[str, list[str]]:
    text, name = read_text(path)
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if lines[-1] == "":
        lines.pop()  # after the last line break
    if not lines:
        raise DataError("is empty.", where=name, remedy="Give a file with at least one line.")
    return name, lines


def _find_stem(outer: str, inside: list[str], languages: LanguagePair) -> str:
    source, target = (f".{language}" for language in languages)
    stems = [
        name.removesuffix(source)
        for name in inside
        if name.endswith(source) and name.removesuffix(source) + target in inside
    ]
    if len(stems) == 1:
        return stems[0]
    candidates = ", ".join(stems or inside) or "nothing"
    raise DataError(
        f"holds {'several pairs' if stems else 'no pair'} of files that end in {source} and "
        f"{target}.",
        where=outer,
        remedy=f"It holds {candidates}: name one as {Path(outer).name}::NAME, without the "
        f"language.",
    )
