"""Tags of words: in lists or in lines (CoNLL, CoNLL-U), in any scheme, converted to IOB2.

In lines an empty line ends a sentence, which becomes a row: a list for each column, and the
``document`` where the file says so. The columns of CoNLL-U are called as its fields in small
letters (``form``, ``upos`` ...), with ``ner`` from ``NER=`` in MISC; of CoNLL they are ``tokens``,
``tags`` (the last) and ``column_2`` ... between. Ranges of words (``1-2``) and empty nodes
(``1.1``) are passed over.

===========  ====================================================================
IOB2         an entity begins with ``B-`` and goes on with ``I-``
IOB1         it begins with ``I-``, and with ``B-`` where one of its type ends there
BIOES        it ends with ``E-``, and is ``S-`` where it has one word
BILOU        the same with ``L-`` and ``U-``
===========  ====================================================================

Ramshaw and Marcus 1995 (IOB1, arXiv:cmp-lg/9505040); Ratinov and Roth 2009 (BILOU, CoNLL).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from paretune.data.columns import Values, cell_text
from paretune.data.finding import InvalidValueError
from paretune.data.labels import read_items
from paretune.data.rows import EXTENSIONS, Row, read_rows, read_text
from paretune.errors import DataError
from paretune.metrics.tags import OUTSIDE, find_entities
from paretune.terminal.plural import pluralise

SCHEMES = {"BIOES": ("E", "S"), "BILOU": ("L", "U"), "IOB2": ("I", "B"), "IOB1": ("I", "B")}
"""Prefixes of the last word of an entity, and of the only one."""
_ENTITY_TAG = re.compile(r"O|[BIESLU](-\S+)?")

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


def are_entity_tags(tags: Sequence[str]) -> bool:
    """Whether these are tags of entities in any scheme, but for a tenth."""
    marked = sum(_ENTITY_TAG.fullmatch(tag) is not None for tag in tags)
    return marked > 0.9 * len(tags) and any(tag[:2] in ("B-", "I-") for tag in tags)


def convert_tags(tags: Sequence[str], scheme: str) -> list[str]:
    """Write entities in another scheme; in their own scheme, faults are put right."""
    converted = [OUTSIDE] * len(tags)
    (end, single), before = SCHEMES[scheme], ("", 0)
    for kind, first, behind in find_entities(" ".join(tags), strict=False):
        length = behind - first
        prefixes = f"B{'I' * (length - 2)}{end}" if length > 1 else single
        if scheme == "IOB1" and before != (kind, first):  # type and end of the entity before it
            prefixes = "I" * length
        converted[first:behind] = [f"{prefix}-{kind}" if kind else prefix for prefix in prefixes]
        before = kind, behind
    return converted


def find_scheme(sentences: Sequence[Sequence[str]]) -> str | None:
    """The scheme that the fewest tags of all sentences contradict; None: they mark no entities."""
    tags = {tag for sentence in sentences for tag in sentence} - {OUTSIDE}
    marked = [tag for tag in tags if _ENTITY_TAG.fullmatch(tag)]
    if len(marked) <= len(tags) / 2 or not any(tag[0] in "BI" for tag in marked):
        return None
    wrong = {
        scheme: sum(
            tag != right
            for sentence in sentences
            for tag, right in zip(sentence, convert_tags(sentence, scheme), strict=True)
        )
        for scheme in SCHEMES
    }
    return min(wrong, key=wrong.__getitem__)


def to_iob2(tags: Sequence[str], words: Sequence[str], scheme: str | None) -> Sequence[str]:
    """Write entities in IOB2; tags without a scheme stay as they are.

    Raises:
        InvalidValueError: a tag contradicts the scheme; says which, of which word.
    """
    if scheme is None:
        return tags
    for place, (tag, right) in enumerate(zip(tags, convert_tags(tags, scheme), strict=True)):
        if tag != right:
            before, behind = ((OUTSIDE, *tags)[place], (*tags, OUTSIDE)[place + 1])
            what = (
                f'tag "{tag}" of word {place + 1}, "{words[place]}", contradicts {scheme} between '
                f'"{before}" and "{behind}", where "{right}" would fit.'
            )
            raise InvalidValueError("tag-scheme", what, "Fix this tag, or those beside it.")
    return convert_tags(tags, "IOB2")


def read_tags(
    values: Values, text: str, label: str, listed: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """The words of a row, and the tag of each as it is written.

    A blank inside a word is read as a no-break space.

    Args:
        listed: the tags that there are; one that is a number is named by its place among them.

    Raises:
        InvalidValueError: they are no lists of equal length, a word is empty, or a tag is unknown.
    """
    tags = read_items(values, label, " ")
    words = read_items(values, text, " ") if cell_text(values.get(text)) else []
    if not words or not all(words):
        what = f'has an empty word in "{text}".' if words else f'has no words in "{text}".'
        raise InvalidValueError("missing-text", what, "Remove it with its tag, or the row.")
    if len(words) != len(tags):
        what = f'has {len(words)} words in "{text}" and {len(tags)} tags in "{label}".'
        raise InvalidValueError("unequal-lengths", what, "Give each word one tag.")
    for place, tag in enumerate(tags):
        if listed and tag not in listed and tag.isdecimal() and int(tag) < len(listed):
            tag = tags[place] = listed[int(tag)]
        if (listed and tag not in listed) or not tag or len(tag.split()) > 1:
            fault = f"is not one of {', '.join(listed)}" if listed else "is empty, or holds a blank"
            what = f'tag "{tag}" of word {place + 1}, "{words[place]}", {fault}.'
            raise InvalidValueError("unknown-label", what, "Fix the tag, or add it to labels.")
    return ["\u00a0".join(word.split()) for word in words], tags


def list_tags(
    sentences: Sequence[Sequence[str]], listed: Sequence[str] | None, scheme: str | None
) -> tuple[str, ...]:
    """The tags of all sentences as they are trained: as listed, or ``O`` first and in order."""
    if listed is not None and scheme in (None, "IOB2"):
        return tuple(listed)
    tags = {
        tag for of_row in sentences for tag in (convert_tags(of_row, "IOB2") if scheme else of_row)
    }
    return tuple(sorted(tags, key=lambda tag: (tag != OUTSIDE, tag.partition("-")[2], tag)))


def read_table(path: str, target: str | None = None) -> tuple[list[Row], str]:
    """The rows of one file, a table or sentences in lines, and its name.

    Raises:
        DataError: it cannot be read (:func:`paretune.data.rows.read_rows`), a line has more or
            fewer fields than the others, or a sentence of CoNLL-U skips a word.
    """
    rows = parse_conll(*read_text(path)) if is_conll(path) else read_rows(path)
    return rows, Path(path).name


def is_conll(path: str) -> bool:
    """Whether a file has a token and its tags in each line, by its ending or by its lines.

    In a file that is no table by its ending, all lines have as many fields, in several sentences.
    """
    ending = PurePosixPath(path).suffix.lower()
    if ending in _ENDINGS or ending in _TABLES:
        return ending in _ENDINGS
    try:
        head = read_text(path)[0][:_HEAD].replace("\r\n", "\n")
    except DataError:
        return False  # reading the rows says why
    lines = [line.split() for line in head.splitlines() if line.strip()]
    tags = [fields[-1] for fields in lines if len(fields) > 1]
    if len(tags) > len(lines) / 2 and are_entity_tags(tags):
        return True
    if ending in EXTENSIONS:
        return False
    *texts, _ = head.split("\n")  # the last line may be cut
    texts = [text for text in texts if not text.startswith(("#", _DOCUMENT))]
    sentences = "\n".join(texts).strip().split("\n\n")
    widths = {len(text.split("\t" if "\t" in text else None)) for text in texts if text.strip()}
    return len(sentences) > 1 and len(widths) == 1 and min(widths) > 1


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
