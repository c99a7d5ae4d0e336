"""Texts on which forgetting is measured: the shipped one, or a file of the user's.

A decoder continues texts of one language: paragraphs of a plain text, parted by blank lines, or the
rows of a table's column ``text`` (or of the column called as the task's language). A translator
needs pairs: a table or a TMX file with its two languages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from paretune.data.example import Example
from paretune.data.rows import EXTENSIONS, read_bytes, read_rows, read_text
from paretune.errors import DataError, StudyError
from paretune.study import TaskSpec
from paretune.study.paths import SHIPPED_LANGUAGES
from paretune.tasks.samples import SAMPLES_FOLDER
from paretune.tasks.target_texts import load_pairs

SHIPPED_FILE = SAMPLES_FOLDER / "forgetting" / "pairs.tsv"
MAX_BLOCKS = 500
"""The first blocks of a file that are read: with so many the interval is that of the seeds."""


def hash_text(text: str) -> str:
    """Sha256 of the text that ``forgetting`` names.

    Raises:
        DataError: the file cannot be read.
    """
    shipped = text in SHIPPED_LANGUAGES
    content = read_bytes(SHIPPED_FILE if shipped else text)[0]
    # Both shipped languages are in one file.
    return hashlib.sha256((text.encode() if shipped else b"") + b"\0" + content).hexdigest()


def read_blocks(text: str, language: str | None) -> tuple[Example, ...]:
    """The blocks of a text in one language, in their order, at most :data:`MAX_BLOCKS`.

    Args:
        text: one of :data:`SHIPPED_LANGUAGES`, or a file.
        language: of the task, whose column of a table is read if it has no column ``text``.

    Raises:
        DataError: the file cannot be read, or has no text.
    """
    if text in SHIPPED_LANGUAGES:
        return _read_column(str(SHIPPED_FILE), (text,))
    if PurePosixPath(text).suffix.lower() == ".tmx":
        raise DataError(
            "is a TMX file, which has pairs; a decoder needs a text of one language.",
            where=Path(text).name,
            remedy="Give a plain text, or a table with a column text.",
        )
    if PurePosixPath(text).suffix.lower() in EXTENSIONS:
        return _read_column(text, ("text", language) if language else ("text",))
    content, name = read_text(text)
    blocks, line, lines = list[Example](), 0, list[str]()
    for number, text_line in enumerate([*content.splitlines(), ""], 1):
        if text_line.strip():
            line = line if lines else number
            lines.append(text_line.strip())
        elif lines:
            blocks.append(_block(len(blocks), " ".join(lines), f"{name} line {line}"))
            lines = []
    return _require_blocks(blocks, name)


def read_pairs(text: str, languages: Sequence[str]) -> tuple[Example, ...]:
    """The blocks of a text in two languages: sources with their translations.

    Raises:
        StudyError: the shipped text is in other languages.
        DataError: the file cannot be read, or lacks one of the languages.
    """
    source, target = languages
    if text in SHIPPED_LANGUAGES:
        if set(languages) != set(SHIPPED_LANGUAGES):
            raise StudyError(
                f"the shipped text is in Slovene and English; it has no {source} to {target}.",
                where=f"forgetting: {text}",
                remedy="Name a table or a TMX file with both languages.",
            )
        text = str(SHIPPED_FILE)
    spec = TaskSpec(
        name="forgetting",
        kind="translation",
        train=text,
        test=text,
        source_lang=source,
        target_lang=target,
    )
    return load_pairs(spec).train[:MAX_BLOCKS]


def _read_column(text: str, columns: Sequence[str]) -> tuple[Example, ...]:
    """Texts of the first of the columns that the table has; empty cells are left out."""
    rows = read_rows(text)
    column = next((c for c in columns if any(c in row.values for row in rows)), None)
    if column is None:
        raise DataError(
            f"has no column {' or '.join(columns)}.",
            where=Path(text).name,
            remedy="Name the column of texts so, or give a plain text with blank lines.",
        )
    cells = [(str(row.values.get(column) or "").strip(), row.where) for row in rows]
    blocks = [
        _block(number, cell, where)
        for number, (cell, where) in enumerate((cell, where) for cell, where in cells if cell)
    ]
    return _require_blocks(blocks, Path(text).name)


def _block(number: int, text: str, where: str) -> Example:
    return Example(f"forgetting:{number}", ((text, None),), None, where)


def _require_blocks(blocks: Sequence[Example], name: str) -> tuple[Example, ...]:
    if len(blocks) < 2:
        raise DataError(
            f"has {len(blocks)} paragraphs; forgetting is measured on two at least.",
            where=name,
            remedy="Part paragraphs by blank lines; 40 of them make a useful interval.",
        )
    return tuple(blocks[:MAX_BLOCKS])
