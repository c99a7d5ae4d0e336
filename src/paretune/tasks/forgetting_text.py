"""Texts on which forgetting is measured: the shipped one, or a file of the user's.

A decoder continues texts of one language: paragraphs of a plain text, parted by blank lines, or the
rows of a table's column ``text`` (or of the column called as the task's language). A translator
needs pairs: a table or a TMX file with its two languages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from paretune.data.rows import EXTENSIONS, read_bytes, read_rows, read_text
from paretune.errors import DataError, StudyError
from paretune.objectives.example import Example
from paretune.study import TaskSpec
from paretune.study.specs import SHIPPED_LANGUAGES
from paretune.tasks.readers import load_pairs
from paretune.tasks.samples import SAMPLES_FOLDER

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
    ending = PurePosixPath(text).suffix.lower()
    if text in SHIPPED_LANGUAGES:
        cells, name = _read_column(str(SHIPPED_FILE), (text,)), SHIPPED_FILE.name
    elif ending == ".tmx":
        raise DataError(
            "is a TMX file, which has pairs; a decoder needs a text of one language.",
            where=Path(text).name,
            remedy="Give a plain text, or a table with a column text.",
        )
    elif ending in EXTENSIONS:
        cells, name = _read_column(text, ("text", language or "text")), Path(text).name
    else:
        content, name = read_text(text)
        cells, begins_anew = [], True
        for number, line in enumerate(map(str.strip, content.splitlines()), 1):
            if line and begins_anew:
                cells.append((line, f"{name} line {number}"))
            elif line:
                cells[-1] = (f"{cells[-1][0]} {line}", cells[-1][1])
            begins_anew = not line
    if len(cells) < 2:
        raise DataError(
            f"has {len(cells)} paragraphs; forgetting is measured on two at least.",
            where=name,
            remedy="Part paragraphs by blank lines; 40 of them make a useful interval.",
        )
    return tuple(
        Example(f"forgetting:{number}", ((cell, None),), None, where)
        for number, (cell, where) in enumerate(cells[:MAX_BLOCKS])
    )


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


def _read_column(text: str, columns: Sequence[str]) -> list[tuple[str, str]]:
    """Cells, with their places, of the first of the columns that the table has; no empty ones."""
    rows = read_rows(text)
    column = next((c for c in columns if any(c in row.values for row in rows)), None)
    if column is None:
        raise DataError(
            f"has no column {' or '.join(dict.fromkeys(columns))}.",
            where=Path(text).name,
            remedy="Name the column of texts so, or give a plain text with blank lines.",
        )
    cells = [(str(row.values.get(column) or "").strip(), row.where) for row in rows]
    return [(cell, where) for cell, where in cells if cell]
