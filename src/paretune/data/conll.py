"""Tokens in lines: CoNLL (a token and its tags in each line) and CoNLL-U.

An empty line ends a sentence, which becomes a row: a list for each column, and the ``document``
where the file says so. The columns of CoNLL-U are called as its fields in small letters
(``form``, ``upos`` ...), with ``ner`` from ``NER=`` in MISC; of CoNLL they are ``tokens``, ``tags``
(the last) and ``column_2`` ... between. Ranges of words (``1-2``) and empty nodes (``1.1``) are
passed over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from paretune.data.rows import Row, read_rows, read_text
from paretune.errors import DataError
from paretune.terminal.plural import pluralise

CONLLU_FIELDS = (
    *("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc"),
)
BIO = re.compile(r"O|[BIESLU](-\S+)?")
"""A tag of an entity, in any scheme."""
_ENDINGS = (".conll", ".conllu", ".iob", ".iob2", ".bio")
_TABLES = (".csv", ".jsonl", ".ndjson", ".parquet", ".zip")
_HEAD_BYTES = 1 << 16
_DOCUMENT = "-DOCSTART-"
_COMMENT = re.compile(r"#\s*(newdoc|sent_id)(?:\s+id)?\s*(?:=\s*(.*))?")
_NER = re.compile(r"(?:^|\|)NER=([^|]+)")


def read_table(path: str, target: str | None = None) -> tuple[list[Row], str]:
    """The rows of one file, a table or sentences in lines, and its name.

    Raises:
        DataError: it cannot be read (:func:`paretune.data.rows.read_rows`), a line has more or
            fewer fields than the others, or a sentence of CoNLL-U skips a word.
    """
    rows = parse_conll(*read_text(path)) if is_conll(path) else read_rows(path)
    return rows, Path(path).name


def is_conll(path: Path | str) -> bool:
    """Whether a file has a token and its tags in each line, by its ending or by its tags."""
    ending, file = PurePosixPath(str(path)).suffix.lower(), Path(path).expanduser()
    if ending in _ENDINGS or ending in _TABLES or not file.is_file():
        return ending in _ENDINGS
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEAD_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return False  # reading the rows says why
    lines = [line.split() for line in head.splitlines() if line.strip()]
    tags = [fields[-1] for fields in lines if len(fields) > 1]
    return len(tags) > len(lines) / 2 and are_entity_tags(tags)


def are_entity_tags(tags: Sequence[str]) -> bool:
    """Whether these are tags of entities, but for a tenth."""
    marked = sum(BIO.fullmatch(tag) is not None for tag in tags)
    return marked > 0.9 * len(tags) and any(tag[:2] in ("B-", "I-") for tag in tags)


def parse_conll(text: str, name: str) -> list[Row]:
    """The sentences of a file, each at its first line.

    Raises:
        DataError: see :func:`read_table`.
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    first = next((line for line in lines if line.strip() and not _is_aside(line)), "")
    separator = "\t" if "\t" in first else None
    width = len(first.split(separator))
    universal = width == len(CONLLU_FIELDS) and first.split(separator)[0][:1].isdigit()
    between = [f"column_{i}" for i in range(2, width)]
    columns = CONLLU_FIELDS if universal else ("tokens", *between, "tags")
    if width < 2:
        raise DataError(
            "holds no line with a token and a tag.",
            where=name,
            remedy="Write a token and its tag in each line, with a tab or a blank between them.",
        )
    reads_ner = universal and "NER=" in text
    rows: list[Row] = []
    sentence: list[list[str]] = []
    about: dict[str, object] = {}
    documents, begins = 0, 1

    def end_sentence() -> None:
        if sentence:
            values = dict(zip(columns, map(list, zip(*sentence, strict=True)), strict=True))
            rows.append(Row({**_select(values, reads_ner), **about}, f"{name} line {begins}"))
            sentence.clear()
        about.pop("sent_id", None)

    for number, line in enumerate(lines, 1):
        fields = line.split(separator)
        if not line.strip():
            end_sentence()
        elif line.startswith(_DOCUMENT):
            end_sentence()
            documents += 1
            about["document"] = str(documents)
        elif not sentence and line.startswith("#") and len(fields) != width:
            if match := _COMMENT.match(line):
                documents += match[1] == "newdoc"
                key = "document" if match[1] == "newdoc" else "sent_id"
                about[key] = (match[2] or "").strip() or str(documents)
        elif len(fields) != width:
            what = f"has {pluralise(len(fields), 'field')}, the first token has {width}."
            remedy = "Each line has a token and its tags; an empty line ends a sentence."
            raise DataError(what, where=f"{name} line {number}", remedy=remedy)
        elif universal and re.fullmatch(r"\d+[-.]\d+", fields[0]):
            continue
        elif universal and fields[0] != str(len(sentence) + 1):
            what = f'its word has the number "{fields[0]}", not {len(sentence) + 1}.'
            remedy = "Words of a sentence count from 1; an empty line ends it."
            raise DataError(what, where=f"{name} line {number}", remedy=remedy)
        else:
            begins = begins if sentence else number
            sentence.append(fields)
    end_sentence()
    return rows


def _is_aside(line: str) -> bool:
    return line.startswith((_DOCUMENT, "#"))


def _select(columns: dict[str, list[str]], reads_ner: bool) -> dict[str, object]:
    """The columns of a sentence that hold something, and the names of entities in MISC."""
    if reads_ner:
        matches = map(_NER.search, columns["misc"])
        columns = {**columns, "ner": [match[1] if match else "O" for match in matches]}
    words = ("tokens", "form")
    return {name: cells for name, cells in columns.items() if name in words or set(cells) != {"_"}}
