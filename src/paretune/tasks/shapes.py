"""Kinds of data that have no one label a row, recognised by columns and values.

:data:`UNSUPPORTED` lists those that paretune does not train and whose columns would be taken for
something else: they are refused by name before a label is guessed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from operator import eq

from paretune.data.columns import DataColumn, cell_text, parse_literal
from paretune.data.instructions import find_form
from paretune.data.labels import parse_list
from paretune.data.tags import are_entity_tags
from paretune.errors import DataError

Columns = Mapping[str, DataColumn]

LABEL = re.compile(
    r"(gold_?)?(label|labels|class|category|target|topic|sentiment|intent|y|answer|correct|"
    r"oznaka|razred|kategorija|tema)(_?(name|text|id))?|answer_?(key|idx)",
    re.IGNORECASE,
)
NUMERIC_TARGET = re.compile(
    r"price|cost|amount|value|rating|score|charges|cena|znesek|ocena", re.IGNORECASE
)
MAX_LABEL_LENGTH = 60
"""Characters of a label, where no name tells that it is one."""
ID = re.compile(r"(.*_)?(id|idx|uid|guid|index|uuid)(_id)?", re.IGNORECASE)
_SETS = re.compile(r"labels|classes|categories|tags|topics|genres|emotions|intents", re.IGNORECASE)
_VERDICT = re.compile(
    r"label|kto_tag|desirable|thumbs?_?(up)?|accepted|preferred|liked?|feedback|"
    r"is_(good|preferred|desirable|accepted)",
    re.IGNORECASE,
)
_TAGS = re.compile(r"(ner|pos|chunk|upos|xpos)?_?tags?|ner|upos|labels?|oznake", re.IGNORECASE)
_RATING = re.compile(
    r"(.*_)?(ratings?|scores?|rewards?|helpful(ness)?|quality|grade|stars)", re.IGNORECASE
)
_MEDIA = re.compile(
    r"(.*_)?(image|img|picture|photo|audio|sound|speech|wav|video|clip|pixel)s?"
    r"(_?(path|file|name|file_?name|bytes|values))?",
    re.IGNORECASE,
)
_PATH = re.compile(r"(.*_?)path|file|file_?name", re.IGNORECASE)
_MEDIA_FILE = re.compile(
    r"\S+\.(png|jpe?g|gif|webp|bmp|tiff?|wav|mp3|flac|ogg|opus|m4a|mp4|avi|mov|webm|mkv)",
    re.IGNORECASE,
)
_FILE = re.compile(r"\S*[^\s.]\.\w{1,5}|\S+/\S+", re.ASCII)
_MEDIA_KEYS = {"bytes", "path", "array"}
"""Keys of a cell of the Hugging Face features ``Image``, ``Audio`` and ``Video``."""
_BINARY = ({"true", "false"}, {"0", "1"})
_RATINGS = ({"yes", "no"}, {"good", "bad"}, {"up", "down"}, {"desirable", "undesirable"})


def refuse_unsupported_shape(columns: Columns, where: str) -> None:
    """Stop where the data of a file is of a kind that paretune does not train.

    Raises:
        DataError: it is; says which kind, by which columns, and what is closest.
    """
    for find, title, remedy in UNSUPPORTED:
        if names := find(columns):
            evidence = f"its {'columns' if len(names) > 1 else 'column'} {', '.join(names)}"
            what = f"looks like {title}, by {evidence}: paretune does not train on such data."
            raise DataError(what, where=where, remedy=remedy)


def find_verdict(columns: Columns) -> str | None:
    """The column that says of each completion whether it is good, beside prompt and completion."""
    form = find_form(columns)
    read = form.columns if form is not None else ()
    ratings = [
        name
        for name, column in columns.items()
        if _VERDICT.fullmatch(name)
        and name not in read
        and {text.casefold() for text in column.distinct} in (*_BINARY, *_RATINGS)
    ]
    return ratings[0] if ratings else None


def holds_label_sets(column: DataColumn) -> bool:
    """Whether most values are several labels: lists, or texts of labels with a separator.

    A text counts only where its parts stand in other combinations too: ``Yes, please`` does not.
    """
    cells = [value for value in column.values if cell_text(value) is not None]
    if sum(isinstance(parse_list(value), list) for value in cells) > len(cells) / 2:
        return True
    if column.numbers is not None:  # a comma may part decimals
        return False
    texts = [str(cell_text(value)) for value in cells]
    for separator, share in (("|", 0.1), (";", 0.1), (",", 0.5), ("/", 0.5)):
        if sum(separator in text for text in texts) <= share * len(texts):
            continue
        sets = {frozenset(part.strip() for part in text.split(separator)) for text in texts}
        items = Counter(item for labels in sets for item in labels)
        repeated = sum(count > 1 for count in items.values())
        short = max(map(len, items)) <= MAX_LABEL_LENGTH
        if short and repeated > len(items) / 2 and len({len(labels) for labels in sets}) > 1:
            return True
    return False


def match_names(columns: Columns, *patterns: str) -> tuple[str, ...]:
    """One column for each pattern, all of them different; none where one is missing."""
    names: list[str] = []
    for pattern in patterns:
        fitting = (c for c in columns if re.fullmatch(pattern, c, re.IGNORECASE) and c not in names)
        name = next(fitting, None)
        if name is None:
            return ()
        names.append(name)
    return tuple(names)


def match_texts(columns: Columns, *patterns: str) -> tuple[str, ...]:
    """Match the names of columns that hold texts of several words, or lists."""
    return match_names({n: c for n, c in columns.items() if c.holds_texts()}, *patterns)


def find_tags(columns: Columns) -> tuple[str, ...]:
    """The column of words, and those of their tags: lists, or texts, of as many in most rows.

    The likeliest column of tags comes first: one that marks entities, or is called like tags. A
    column of words that has tags or numbers in their place (lines with the tag first) is none.
    """
    names = match_names(columns, "tokens|words|form|besede|pojavnice")
    lengths = _count_words(columns[names[0]]) if names else []
    if max(lengths, default=0) < 2:
        return ()
    counts = {name: _count_words(column) for name, column in columns.items()}
    alike = [n for n in counts if sum(map(eq, counts[n], lengths)) > 0.9 * len(lengths)]
    vocabularies = {name: len({*_list_words(columns[name])}) for name in alike}
    words, richest = names[0], max(alike, key=lambda name: vocabularies[name])
    if marks_entities(columns[words]) or 2 * vocabularies[words] < vocabularies[richest]:
        words = richest
    tags = [name for name in alike if name != words]
    tags.sort(
        key=lambda n: (not marks_entities(columns[n]), "ner" not in n, not _TAGS.fullmatch(n))
    )
    return (words, *tags) if tags else ()


def marks_entities(column: DataColumn) -> bool:
    """Whether its words are tags of entities (``B-``, ``I-``, ``O``)."""
    return are_entity_tags(_list_words(column))


def _list_words(column: DataColumn) -> list[str]:
    """The words of lists or texts in the first rows."""
    words = " ".join(map(str, column.values[:1000]))
    return re.findall(r"[^\s,'\"\[\]]+", words)


def _find_media(columns: Columns) -> tuple[str, ...]:
    """The column of images or sounds; or of paths, where no text stands beside them."""
    for name in columns:
        cells = [parse_literal(v) for v in columns[name].values if cell_text(v) is not None]
        named = _MEDIA.fullmatch(name) or _PATH.fullmatch(name)
        if named and cells and all(map(_is_media, cells)):
            return (name,)
    if any(column.holds_texts() and not column.repeats for column in columns.values()):
        return ()
    paths = (name for name in columns if _PATH.fullmatch(name))
    files = (n for n in paths if columns[n].is_text and all(map(_FILE.fullmatch, columns[n].texts)))
    return tuple(islice(files, 1))


def _is_media(cell: object) -> bool:
    """Whether a cell is an image, a sound or the name of such a file; a list are its numbers."""
    if isinstance(cell, str):
        return _MEDIA_FILE.fullmatch(cell) is not None or cell.startswith("data:")
    if isinstance(cell, dict):
        return bool(_MEDIA_KEYS & cell.keys())
    return isinstance(cell, list | bytes)


def _find_rated_answers(columns: Columns) -> tuple[str, ...]:
    """A prompt, the answer to it and a number that rates it; a verdict of two values is none."""
    pair = match_texts(
        columns,
        "prompt|instruction|question|query|user_?prompt",
        "response|completion|output|answer|reply",
    )
    if not pair or find_verdict(columns):
        return ()
    numeric = [name for name, column in columns.items() if name not in pair and column.numbers]
    of_form = find_form(columns) is not None  # its label is read as a verdict, which this is none
    ratings = [n for n in numeric if _RATING.fullmatch(n) or (of_form and n == "label")]
    return (*pair, ratings[0]) if ratings else ()


def _find_spans(columns: Columns) -> tuple[str, ...]:
    for name, column in columns.items():
        if marks_entities(column):
            return (name,)
        lists = map(parse_list, column.values)
        spans = [v for v in lists if isinstance(v, list) and all(map(_is_span, v))]
        if any(spans) and len(spans) == len(column.values):
            return (name,)
    return ()


def _find_extractive_answers(columns: Columns) -> tuple[str, ...]:
    pair = match_names(columns, "question|query", "context|passage|paragraph|document")
    answer = match_names(columns, "answers?|answer_?text")
    if not pair or not answer:
        return ()
    answers, passages = (columns[name].values for name in (answer[0], pair[1]))
    if "answer_start" in columns or any("answer_start" in str(v) for v in answers):
        return (*pair, *answer)
    texts = [(str(a), str(c)) for a, c in zip(answers, passages, strict=True) if a]
    inside = sum(a in c for a, c in texts)
    several = len({a for a, _ in texts}) > len(texts) / 2
    return (*pair, *answer) if texts and several and inside > 0.8 * len(texts) else ()


def find_label_sets(columns: Columns, label: str | None = None) -> tuple[str, ...]:
    """The column that holds several labels in a row, or those of 0 and 1 for a label each.

    Args:
        label: the column that the user named.
    """
    named = [label] if label is not None else [name for name in columns if LABEL.fullmatch(name)]
    if not named:
        named = [name for name in columns if _SETS.fullmatch(name)]
        if any(column.repeats for name, column in columns.items() if name not in named):
            named = []
    if named and all(holds_label_sets(columns[name]) for name in named):
        return (named[0],)
    if label is not None or any(LABEL.fullmatch(n) or NUMERIC_TARGET.fullmatch(n) for n in columns):
        return ()
    # Three columns or more of 0 and 1 beside a text, and none that is called like a label.
    binary = [n for n, c in columns.items() if {t.casefold() for t in c.distinct} in _BINARY]
    rest = [c for n, c in columns.items() if n not in binary and not ID.fullmatch(n)]
    repeating = sum(column.repeats for column in rest)
    has_text = any(column.holds_texts(min_words=5) for column in rest)
    return tuple(binary) if has_text and len(binary) > max(2, repeating) else ()


def find_identifier(columns: Columns) -> str | None:
    """The first column that is called like an identifier and differs in every row."""
    return next((n for n, c in columns.items() if ID.fullmatch(n) and c.is_unique), None)


UNSUPPORTED = (
    (
        _find_media,
        "images, sounds or files beside the table",
        "If a text beside it is all that is to be read, name it and the label: --text COLUMN "
        "--label COLUMN.",
    ),
    (
        _find_spans,
        "entities as spans of a text, or one word a row",
        "Write each text as a list of its words and a list of their tags (tokens, tags), or a word "
        "and its tag in each line (CoNLL).",
    ),
    (
        _find_extractive_answers,
        "extractive question answering (SQuAD)",
        "Closest is an instruction task: context and question together as prompt, the answer as "
        "completion.",
    ),
    (
        _find_rated_answers,
        "answers with a rating",
        "Closest is a preference task: two answers to a prompt as chosen and rejected, or a label "
        "true or false in the place of the rating. To predict the rating itself, name the columns: "
        "--text PROMPT --pair ANSWER --label RATING.",
    ),
)
"""Refused kinds of data: the columns that show it, its description, and advice to the user."""


def _count_words(column: DataColumn) -> list[int]:
    """The words of each cell; nothing where one is neither a list nor a text."""
    cells = [v.split() if isinstance(v, str) else v for v in map(parse_list, column.values)]
    lengths = [len(cell) for cell in cells if isinstance(cell, list)]
    return lengths if len(lengths) == len(cells) else []


def _is_span(item: object) -> bool:
    """Start and end of a part of a text."""
    if isinstance(item, dict):
        return {"start", "end"} <= item.keys()
    return isinstance(item, list) and [type(v) for v in item] == [int, int, str]
