"""Kinds of data that have no one label a row, recognised by columns and values.

:data:`SHAPES` lists those that paretune does not train: they are refused by name before a label is
guessed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import eq

from paretune.data.columns import DataColumn, cell_text
from paretune.data.instructions import find_form
from paretune.data.labels import parse_list
from paretune.data.tags import are_entity_tags
from paretune.errors import DataError

Columns = Mapping[str, DataColumn]

LABEL = re.compile(
    r"(gold_?)?(label|labels|class|category|target|topic|sentiment|intent|y|answer|correct|"
    r"oznaka|razred|kategorija|tema)(_?(name|text|id))?",
    re.IGNORECASE,
)
NUMERIC_TARGET = re.compile(
    r"price|cost|amount|value|rating|score|charges|cena|znesek|ocena", re.IGNORECASE
)
MAX_LABEL_LENGTH = 60
"""Characters of a label, where no name tells that it is one."""
ID = re.compile(r"(.*_)?(id|idx|uid|guid|index|uuid)(_id)?", re.IGNORECASE)
_SCORE = re.compile(r"(.*_)?(score|relevance|rel|similarity|grade)", re.IGNORECASE)
_SETS = re.compile(r"labels|classes|categories|tags|topics|genres|emotions|intents", re.IGNORECASE)
_VERDICT = re.compile(
    r"label|kto_tag|desirable|thumbs?_?(up)?|accepted|preferred|liked?|feedback|"
    r"is_(good|preferred|desirable|accepted)",
    re.IGNORECASE,
)
_TAGS = re.compile(r"(ner|pos|chunk|upos|xpos)?_?tags?|ner|upos|labels?|oznake", re.IGNORECASE)
_BINARY = ({"true", "false"}, {"0", "1"})
_RATINGS = ({"yes", "no"}, {"good", "bad"}, {"up", "down"}, {"desirable", "undesirable"})


@dataclass(frozen=True)
class Shape:
    """A kind of data that paretune does not train.

    Attributes:
        title: what it is.
        closest: what the user can do instead.
        find: the columns that show it; none where it is something else.
    """

    title: str
    closest: str
    find: Callable[[Columns], tuple[str, ...]]


def refuse_unsupported_shape(columns: Columns, where: str) -> None:
    """Stop where the data of a file is of a kind that paretune does not train.

    Raises:
        DataError: it is; says which kind, by which columns, and what is closest.
    """
    for shape in SHAPES:
        if names := shape.find(columns):
            evidence = f"its {'columns' if len(names) > 1 else 'column'} {', '.join(names)}"
            what = f"looks like {shape.title}, by {evidence}: paretune does not train on such data."
            raise DataError(what, where=where, remedy=shape.closest)


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
    if cells and all(isinstance(parse_list(value), list) for value in cells):
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
    """The same of columns that hold texts of several words, or lists."""
    return match_names({n: c for n, c in columns.items() if c.holds_texts()}, *patterns)


def match_unlabelled_texts(columns: Columns, *patterns: str) -> tuple[str, ...]:
    """The same where no column beside them may be a label, by its name or its values."""
    texts = match_texts(columns, *patterns)
    apart = [(n, c) for n, c in columns.items() if n not in texts and not ID.fullmatch(n)]
    labelled = any(
        any(pattern.fullmatch(name) for pattern in (LABEL, NUMERIC_TARGET, _SCORE))
        or column.repeats
        for name, column in apart
    )
    return () if labelled else texts


def find_tags(columns: Columns) -> tuple[str, ...]:
    """The column of words, and those of their tags: lists, or texts, of as many in most rows.

    The likeliest column of tags comes first: one that marks entities, or is called like tags.
    """
    words = match_names(columns, "tokens|words|form|besede|pojavnice")
    lengths = _count_words(columns[words[0]]) if words else []
    if max(lengths, default=0) < 2:
        return ()
    counts = {n: _count_words(c) for n, c in columns.items() if n not in words}
    tags = [n for n in counts if sum(map(eq, counts[n], lengths)) > 0.9 * len(lengths)]
    tags.sort(key=lambda n: (not marks_entities(columns[n]), not _TAGS.fullmatch(n)))
    return (*words, *tags) if tags else ()


def marks_entities(column: DataColumn) -> bool:
    """Whether its words are tags of entities (``B-``, ``I-``, ``O``)."""
    words = " ".join(map(str, column.values[:1000]))
    return are_entity_tags(re.findall(r"[^\s,'\"\[\]]+", words))


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
    return _find_indicators(columns) if label is None else ()


def _find_indicators(columns: Columns) -> tuple[str, ...]:
    """Three columns or more of 0 and 1 beside a text, and none that is called like a label."""
    if any(LABEL.fullmatch(name) or NUMERIC_TARGET.fullmatch(name) for name in columns):
        return ()
    binary = [n for n, c in columns.items() if {t.casefold() for t in c.distinct} in _BINARY]
    rest = [c for n, c in columns.items() if n not in binary and not ID.fullmatch(n)]
    repeating = sum(column.repeats for column in rest)
    has_text = any(column.holds_texts(min_words=5) for column in rest)
    return tuple(binary) if has_text and len(binary) > max(2, repeating) else ()


SHAPES = (
    Shape(
        "triplets for an embedding model",
        "Closest is a pair task: two rows of each triplet, with a column label that says whether "
        "the second text is the positive.",
        lambda columns: match_texts(
            columns,
            "anchor|query|question|sentence",
            r"positives?(_?\d+)?|pos",
            r"negatives?(_?\d+)?|neg",
        ),
    ),
    Shape(
        "entities as spans of a text, or one word a row",
        "Write each text as a list of its words and a list of their tags (tokens, tags), or a word "
        "and its tag in each line (CoNLL).",
        _find_spans,
    ),
    Shape(
        "extractive question answering (SQuAD)",
        "Closest is an instruction task: context and question together as prompt, the answer as "
        "completion.",
        _find_extractive_answers,
    ),
    Shape(
        "retrieval, texts with what answers them and no label",
        "Closest is a pair task: add rows with texts that do not belong together, and a column "
        "label that says which do.",
        lambda columns: match_unlabelled_texts(
            columns, "query|anchor|question", "passages?|documents?|doc|positives?|pos|context"
        ),
    ),
)
"""What is refused; the first that is found counts."""


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
