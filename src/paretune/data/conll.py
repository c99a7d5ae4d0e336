"""Tokens in lines: CoNLL (a token and its tags in each line) and CoNLL-U.

An empty line ends a sentence, which becomes a row: a list for each column, and the ``document``
where the file says so. The columns of CoNLL-U are called as its fields in small letters
(``form``, ``upos`` ...), with ``ner`` from ``NER=`` in MISC; of CoNLL they are ``tokens``, ``tags``
(the last) and ``column_2`` ... between. Ranges of words (``1-2``) and empty nodes (``1.1``) are
passed over.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from paretune.data.rows import Row, read_rows, read_text
from paretune.data.tags import are_entity_tags
from paretune.errors import DataError
from paretune.terminal.plural import pluralise

CONLLU_FIELDS = (
    *("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc"),
)
_WORDS = ("tokens", "form")
_ENDINGS = (".conll", ".conllu", ".iob", ".iob2", ".bio")
_TABLES = (".csv", ".jsonl", ".ndjson", ".parquet", ".zip")
_HEAD = 1 << 16
"""Characters by which a file of another ending is judged."""
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


def is_conll(path: str) -> bool:
    """Whether a file has a token and its tags in each line, by its ending or by its tags."""
    ending = PurePosixPath(path).suffix.lower()
    if ending in _ENDINGS or ending in _TABLES:
        return ending in _ENDINGS
    try:
        head = read_text(path)[0][:_HEAD]
    except DataError:
        return False  # reading the rows says why
    lines = [line.split() for line in head.splitlines() if line.strip()]
    tags = [fields[-1] for fields in lines if len(fields) > 1]
    return len(tags) > len(lines) / 2 and are_entity_tags(tags)


def parse_conll(text: str, name: str) -> list[Row]:
    """The sentences of a file, each at its first line.

    Raises:
        DataError: see :func:`read_table`.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    asides = (_DOCUMENT, "#")
    first = next((line for line in lines if line.strip() and not line.startswith(asides)), "")
    separator = "\t" if "\t" in first else None
    width = len(first.split(separator))
    universal = width == len(CONLLU_FIELDS) and first[:1].isdigit()
    between = [f"column_{i}" for i in range(2, width)]
    columns = CONLLU_FIELDS if universal else ("tokens", *between, "tags")
    if width < 2:
        raise DataError(
            "holds no line with a token and a tag.",
            where=name,
            remedy="Write a token and its tag in each line, with a tab or a blank between them.",
        )
    rows: list[Row] = []
    sentence: dict[int, list[str]] = {}  # the fields of its words, by their lines
    about: dict[str, object] = {}
    documents = 0
    for number, line in enumerate([*lines, ""], 1):
        fields, where = line.split(separator), f"{name} line {number}"
        if not line.strip() or line.startswith(_DOCUMENT):
            if sentence:
                cells = dict(
                    zip(columns, map(list, zip(*sentence.values(), strict=True)), strict=True)
                )
                if universal and "NER=" in text:
                    matches = map(_NER.search, cells["misc"])
                    cells["ner"] = [match[1] if match else "O" for match in matches]
                filled = {n: c for n, c in cells.items() if n in _WORDS or {*c} != {"_"}}
                rows.append(Row({**filled, **about}, f"{name} line {min(sentence)}"))
                about.pop("sent_id", None)
            sentence = {}
            if line.strip():
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
            raise DataError(what, where=where, remedy=remedy)
        elif universal and re.fullmatch(r"\d+[-.]\d+", fields[0]):
            continue
        elif universal and fields[0] != str(len(sentence) + 1):
            what = f'its word has the number "{fields[0]}", not {len(sentence) + 1}.'
            remedy = "Words of a sentence count from 1; an empty line ends it."
            raise DataError(what, where=where, remedy=remedy)
        else:
            sentence[number] = fields
    return rows
