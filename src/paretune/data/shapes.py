"""Kinds of data that have no one label a row, recognised by columns and values.

:data:`SHAPES` lists those that paretune does not train: they are refused by name before a label is
guessed. A text with a text to write for it (summarisation, open questions) is an instruction task.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from paretune.data.columns import cell_text, parse_numbers
from paretune.data.instructions import find_form
from paretune.errors import DataError

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

Columns = Mapping[str, list[object]]

_ID = re.compile(r"(.*_)?(id|idx|uid|guid|index|uuid)", re.IGNORECASE)
_SCORE = re.compile(r"(.*_)?(score|relevance|rel|similarity|grade)", re.IGNORECASE)
_SETS = re.compile(r"labels|classes|categories|tags|topics|genres|emotions|intents", re.IGNORECASE)
_VERDICT = re.compile(
    r"label|kto_tag|desirable|thumbs?_?(up)?|accepted|preferred|liked?|feedback|"
    r"is_(good|preferred|desirable|accepted)",
    re.IGNORECASE,
)
_VERDICTS = (
    *({"true", "false"}, {"0", "1"}, {"yes", "no"}, {"good", "bad"}, {"up", "down"}),
    {"desirable", "undesirable"},
)
_BIO = re.compile(r"O|[BIESLU]-\S+")
_TABLES = (".csv", ".jsonl", ".ndjson", ".parquet", ".zip")
_HEAD_BYTES = 1 << 16
_SUMMARY_PROMPT = "{text}\nSummary:"


@dataclass(frozen=True)
class Shape:
    """A kind of data that paretune does not train.

    Attributes:
        title: what it is.
        find: the columns that show it; none where it is something else.
        closest: what the user can do instead.
    """

    title: str
    find: Callable[[Columns], tuple[str, ...]]
    closest: str

    def describe(self, columns: tuple[str, ...]) -> str:
        """A sentence without its subject, the data."""
        word = "columns" if len(columns) > 1 else "column"
        named = f"{word} {', '.join(columns)}"
        return f"looks like {self.title}, by its {named}: paretune does not train on such data."


def refuse_unsupported_shape(columns: Columns, where: str, label: str | None = None) -> None:
    """Stop where the data is of a kind that paretune does not train.

    Args:
        columns: the values of every column.
        where: the file.
        label: the column that the user named; then only lists in it are refused.

    Raises:
        DataError: it is; says which kind, by which columns, and what is closest.
    """
    if label is not None:
        if any(isinstance(value, list) for value in columns[label]):
            raise DataError(LABEL_SETS.describe((label,)), where=where, remedy=LABEL_SETS.closest)
        return
    for shape in SHAPES:
        if evidence := shape.find(columns):
            raise DataError(shape.describe(evidence), where=where, remedy=shape.closest)


def refuse_conll(path: Path) -> None:
    """Stop where a file has a token and its tag in each line, whatever its ending.

    Raises:
        DataError: it has.
    """
    if path.suffix.lower() in _TABLES or not path.is_file():
        return
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return  # reading the rows says why
    lines = [line.split() for line in head.splitlines() if line.strip()]
    tags = [fields[-1] for fields in lines if len(fields) > 1]
    if len(tags) > len(lines) / 2 and _are_bio_tags(tags):
        raise DataError(
            "looks like token classification, by a token and its tag in each line (CoNLL): "
            "paretune does not train on such data.",
            where=str(path),
            remedy=_TOKENS_REMEDY,
        )


def find_text_to_text(columns: Columns) -> dict[str, str] | None:
    """Keys of an instruction task whose texts are written for other texts; None: no such columns.

    Summaries of documents, and answers to questions where the file has nothing else.
    """
    pair = _match_texts(
        columns, "document|article|dialogue|text|body|besedilo", "summary|highlights|povzetek"
    )
    if pair and not _holds_labels(columns, pair):
        return {"text": pair[0], "label": pair[1], "prompt": _SUMMARY_PROMPT}
    pair = _match_texts(columns, "question|query|vprašanje|vprasanje", "answer|response|odgovor")
    if pair and all(name in pair or _ID.fullmatch(name) for name in columns):
        return {"text": pair[0], "label": pair[1]}
    return None


def find_verdicts(columns: Columns) -> tuple[str, ...]:
    """The column that says of each completion whether it is good, beside prompt and completion."""
    form = find_form(columns)
    names = [
        c for c in columns if _VERDICT.fullmatch(c) and (form is None or c not in form.columns)
    ]
    return tuple(c for c in names if _distinct(columns[c]) in _VERDICTS)[:1]


def holds_label_sets(values: list[object]) -> bool:
    """Whether most values are several labels: lists, or texts of labels with a separator.

    A text counts only where its parts stand in other combinations too: ``Yes, please`` does not.
    """
    texts = [text for v in values if (text := cell_text(v)) is not None]
    if texts and all(isinstance(_as_list(v), list) for v in values if cell_text(v) is not None):
        return True
    if parse_numbers(values) is not None:  # a comma may part decimals
        return False
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


def _find_preferences(columns: Columns) -> tuple[str, ...]:
    return _match_texts(columns, "chosen(_response)?", "rejected(_response)?")


def _find_triplets(columns: Columns) -> tuple[str, ...]:
    anchor, number = "anchor|query|question|sentence", r"(_?\d+)?"
    return _match_texts(columns, anchor, f"positives?{number}|pos", f"negatives?{number}|neg")


def _find_rated_completions(columns: Columns) -> tuple[str, ...]:
    form = find_form(columns)
    verdict = find_verdicts(columns)
    return (*form.columns, *verdict) if form is not None and verdict else ()


def _find_tokens(columns: Columns) -> tuple[str, ...]:
    tokens = _match_names(columns, "tokens|words|besede|pojavnice")
    if tokens:
        lengths = _list_lengths(columns[tokens[0]])
        for name, values in columns.items():
            if name != tokens[0] and lengths and _list_lengths(values) == lengths:
                return (*tokens, name)
    for name, values in columns.items():
        texts = [v for v in values if isinstance(v, str)]
        if texts and _are_bio_tags(re.findall(r"[^\s,'\"\[\]]+", " ".join(texts[:1000]))):
            return (name,)
        lists = map(_as_list, values)
        spans = [v for v in lists if isinstance(v, list) and all(map(_is_span, v))]
        if any(spans) and len(spans) == len(values):
            return (name,)
    return ()


def _find_extractive_answers(columns: Columns) -> tuple[str, ...]:
    pair = _match_names(columns, "question|query", "context|passage|paragraph|document")
    answer = _match_names(columns, "answers?|answer_?text")
    if not pair or not answer:
        return ()
    answers = columns[answer[0]]
    if "answer_start" in columns or any("answer_start" in str(v) for v in answers):
        return (*pair, *answer)
    texts = [(str(a), str(c)) for a, c in zip(answers, columns[pair[1]], strict=True) if a]
    inside = sum(a in c for a, c in texts)
    several = len({a for a, _ in texts}) > len(texts) / 2
    return (*pair, *answer) if texts and several and inside > 0.8 * len(texts) else ()


def _find_label_sets(columns: Columns) -> tuple[str, ...]:
    named = [c for c in columns if LABEL.fullmatch(c)]
    if not named:
        named = [c for c in columns if _SETS.fullmatch(c)]
        if any(_repeats(values) for c, values in columns.items() if c not in named):
            return ()
    sets = [c for c in named if holds_label_sets(columns[c])]
    return tuple(sets[:1]) if len(sets) == len(named) else ()


def _find_indicators(columns: Columns) -> tuple[str, ...]:
    """Three columns or more of 0 and 1 beside a text, and none that is called like a label."""
    if any(LABEL.fullmatch(c) or NUMERIC_TARGET.fullmatch(c) for c in columns):
        return ()
    binary = [
        c for c, values in columns.items() if _distinct(values) in ({"0", "1"}, {"true", "false"})
    ]
    rest = [c for c in columns if c not in binary and not _ID.fullmatch(c)]
    repeating = [c for c in rest if _repeats(columns[c])]
    texts = [c for c in rest if _holds_texts(columns[c], min_words=5)]
    return tuple(binary) if texts and len(binary) > max(2, len(repeating)) else ()


def _find_retrieval(columns: Columns) -> tuple[str, ...]:
    pair = _match_texts(
        columns, "query|anchor|question", "passages?|documents?|doc|positives?|pos|context"
    )
    return () if _holds_labels(columns, pair) else pair


_TOKENS_REMEDY = (
    "Closest is an instruction task: each sentence as prompt, what is found in it as completion."
)
LABEL_SETS = Shape(
    "several labels a row",
    _find_label_sets,
    "Closest is one label a row: keep one, or write a column of yes and no for the label that "
    "matters, and name it: --label COLUMN.",
)
SHAPES = (
    Shape(
        "preference pairs (DPO)",
        _find_preferences,
        "Closest is an instruction task on the preferred answers: call chosen completion (or "
        "messages, where it is a conversation) and leave rejected out.",
    ),
    Shape(
        "triplets for an embedding model",
        _find_triplets,
        "Closest is a pair task: two rows of each triplet, with a column label that says whether "
        "the second text is the positive.",
    ),
    Shape(
        "rated completions (KTO)",
        _find_rated_completions,
        "Keep the rows whose completion is good, without the rating: they are an instruction task. "
        "Or predict the rating from the texts: --label, --text and --pair name the columns.",
    ),
    Shape("token classification", _find_tokens, _TOKENS_REMEDY),
    Shape(
        "extractive question answering (SQuAD)",
        _find_extractive_answers,
        "Closest is an instruction task: context and question together as prompt, the answer as "
        "completion.",
    ),
    LABEL_SETS,
    Shape(
        "several labels a row, a column of 0 and 1 for each",
        _find_indicators,
        "Closest is one of them as yes and no: --label COLUMN. Where every row has a single 1, "
        "write its column's name into a column label.",
    ),
    Shape(
        "retrieval, texts with what answers them and no label",
        _find_retrieval,
        "Closest is a pair task: add rows with texts that do not belong together, and a column "
        "label that says which do.",
    ),
)
"""What is refused; the first that is found counts."""


def _match_names(columns: Columns, *patterns: str) -> tuple[str, ...]:
    """One column for each pattern, all of them different; none where one is missing."""
    names: list[str] = []
    for pattern in patterns:
        expression = re.compile(pattern, re.IGNORECASE)
        name = next((c for c in columns if expression.fullmatch(c) and c not in names), None)
        if name is None:
            return ()
        names.append(name)
    return tuple(names)


def _match_texts(columns: Columns, *patterns: str) -> tuple[str, ...]:
    """The same of columns that hold texts of several words, or lists."""
    texts = {name: values for name, values in columns.items() if _holds_texts(values)}
    return _match_names(texts, *patterns)


def _as_list(value: object) -> object:
    """A list, also one that a CSV holds as text."""
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        try:
            return ast.literal_eval(value)  # literals alone: nothing is called
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return value
    return value


def _list_lengths(values: list[object]) -> list[int]:
    """The length of each list; nothing where one value is none."""
    lists = [_as_list(v) for v in values]
    lengths = [len(v) for v in lists if isinstance(v, list)]
    return lengths if len(lengths) == len(values) else []


def _are_bio_tags(tags: list[str]) -> bool:
    return any(tag.startswith("B-") for tag in tags) and (
        sum(_BIO.fullmatch(tag) is not None for tag in tags) > 0.9 * len(tags)
    )


def _is_span(item: object) -> bool:
    """Start and end of a part of a text."""
    if isinstance(item, dict):
        return {"start", "end"} <= item.keys()
    return isinstance(item, list) and [type(v) for v in item] == [int, int, str]


def _distinct(values: list[object]) -> set[str]:
    """Spellings without case; of lists and objects none."""
    if any(isinstance(v, list | dict) for v in values):
        return set()
    return {text.casefold() for v in values if (text := cell_text(v)) is not None}


def _repeats(values: list[object]) -> bool:
    """Few plain values that occur again and again, as labels do."""
    return 2 <= len(_distinct(values)) <= max(2, len(values) // 2)


def _holds_labels(columns: Columns, texts: tuple[str, ...]) -> bool:
    """Whether a column beside the texts may be a label, by its name or its values."""
    return any(
        LABEL.fullmatch(c) or NUMERIC_TARGET.fullmatch(c) or _SCORE.fullmatch(c) or _repeats(values)
        for c, values in columns.items()
        if c not in texts and not _ID.fullmatch(c)
    )


def _holds_texts(values: list[object], min_words: float = 1.5) -> bool:
    """Lists (of messages, of texts), or texts of so many words on average."""
    lists = sum(isinstance(v, list) for v in values)
    words = sum(len(v.split()) for v in values if isinstance(v, str))
    texts = sum(isinstance(v, str) for v in values)
    return lists + texts == len(values) > 0 and words >= min_words * texts
