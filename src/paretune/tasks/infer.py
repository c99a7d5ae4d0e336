"""Guess a task from a data file, with a reason for each guess: material for `paretune new`.

The columns are looked at once (:class:`paretune.data.columns.DataColumn`). The first schema that
fits them is taken: two languages, a kind that is refused (:mod:`paretune.tasks.shapes`), a text for
each text, instructions, and at last a label in each row. The likeliest of the columns that may be
the label is taken with its reason; a guess without a name to go by is to be checked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from paretune import objectives
from paretune.data.columns import (
    NULL_VALUES,
    DataColumn,
    cell_text,
    find_possible_groups,
    gather_columns,
    read_options,
)
from paretune.data.finding import InvalidRowsError, summarise
from paretune.data.instructions import PREFERENCE_FORMS, find_form
from paretune.data.labels import (
    describe_imbalance,
    describe_unlabelled,
    find_broken_lists,
    find_null_labels,
    find_similar_labels,
    lacks_label,
    list_labels,
    sort_labels,
)
from paretune.data.language import CODES, language_code
from paretune.data.rows import Row, read_declared_labels
from paretune.data.split import divide_rows, find_part_column
from paretune.data.tags import read_table
from paretune.errors import DataError, StudyError, spell_option
from paretune.study import TaskSpec
from paretune.tasks import load_dataset
from paretune.tasks.readers import describe_unused_columns, find_unused_columns
from paretune.tasks.shapes import (
    ID,
    LABEL,
    MAX_LABEL_LENGTH,
    NUMERIC_TARGET,
    Columns,
    find_label_sets,
    find_tags,
    find_verdict,
    marks_entities,
    match_texts,
    refuse_unsupported_shape,
)
from paretune.terminal.plural import pluralise

_CHOICE = re.compile(
    r"(choice|option|ending|answer|alternative|sol(?:ution)?|izbira)_?(\d+|[a-e])", re.IGNORECASE
)
_CHOICES = re.compile(r"(choices|options|endings|answers|alternatives)", re.IGNORECASE)
_QUESTION = re.compile(
    r"question(_?(stem|text))?|asks_?for|asked|vprašanje|vprasanje", re.IGNORECASE
)
_TEXT = re.compile(
    r"(text|sentence|content|message|body|document|review|utterance|premise|context|"
    r"question(_stem)?|besedilo|poved|sporočilo)(_?(1|a))?",
    re.IGNORECASE,
)
_TEXT_PAIRS = (
    ("premise", "hypothesis"),
    *(("question", second) for second in ("passage", "sentence", "context")),
    *(("query", second) for second in ("document", "passage")),
    *((f"{word}1", f"{word}2") for word in ("sentence", "text", "sentence_", "text_")),
    *((f"{word}_a", f"{word}_b") for word in ("text", "sentence")),
    ("question1", "question2"),
    ("question", "answer"),
    ("prompt", "response"),
)
_SIDES = (("source", "target"), ("src", "tgt"), ("src", "trg"))
_NESTED = "translation"
_SUMMARY_PROMPT = "{text}\nSummary:"
NO_TEST = "none"
"""In the place of a test file: some of train is held out, whatever lies in the folder."""
HELD_OUT = "a fifth of train is held out for the test"
_SELECTION = "a fifth of train chooses learning rates and checkpoints"


@dataclass(frozen=True)
class NamedColumns:
    """Columns that the user named: label, text, second text, or both sides of a translation.

    Raises:
        StudyError: one side of a translation without the other, or another column beside them.
    """

    label: str | None = None
    text: str | None = None
    pair: str | None = None
    source: str | None = None
    target: str | None = None

    def __post_init__(self) -> None:
        both = f"{spell_option('source')} and {spell_option('target')}"
        if (self.source is None) != (self.target is None):
            raise StudyError(f"{both} go together.", remedy="Name both columns.")
        if self.source is not None and {self.label, self.text, self.pair} != {None}:
            label, text, pair = map(spell_option, ("label", "text", "pair"))
            raise StudyError(
                f"{both} name all columns of a translation.",
                remedy=f"Leave out {label}, {text} and {pair}.",
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """All that were named."""
        return tuple(name for name in vars(self).values() if name is not None)


@dataclass
class InferredTask:
    """A guess.

    Attributes:
        task: keys and values of a :class:`TaskSpec`. Paths are as passed; ``test`` is absent if no
            test file was found.
        reasons: why, by the same keys.
        uncertain: keys whose guess the user should check.
        proposals: keys that are worth a thought and not set, each with its column and why.
        remarks: sentences on what the user may not expect: of labels, and of files beside this one.
        rows_per_label: mean, where each row has one of several labels; else 0.
    """

    task: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    uncertain: list[str] = field(default_factory=list)
    proposals: dict[str, tuple[str, str]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    rows_per_label: float = 0.0

    def add(self, key: str, value: object, reason: str, *, uncertain: bool = False) -> None:
        """State one key; a value that is empty or None only has its reason."""
        if value:
            self.task[key] = value
        self.reasons[key] = reason
        if uncertain:
            self.uncertain.append(key)


def infer_task(
    path: Path | str,
    named: NamedColumns = NamedColumns(),
    *,
    test: str | None = None,
    drop_unlabelled: bool = False,
) -> InferredTask:
    """Guess kind, columns, labels and the test file.

    Args:
        test: the test file, or ``none``; guessed by default.
        drop_unlabelled: rows without a label are left out.

    Raises:
        DataError: unreadable, no column of that name, or no column can be the label or the text;
            the columns are named.
    """
    file = Path(str(path))
    is_free = named == NamedColumns()
    columns: Columns = {}
    split_by, division = None, ""
    if is_free and (languages := _languages_of_files(file)):
        draft = _draft_translation(file.with_suffix(""), languages, "called by its language")
    else:
        rows, _ = read_table(str(path))
        split_by, division, rows = _take_part_column(rows, named)
        columns = gather_columns(rows)
        for name in named.columns:
            if name not in columns:
                remedy = f"Its columns are {', '.join(columns)}."
                raise DataError(f'has no column "{name}".', where=str(path), remedy=remedy)
        sides = _language_columns(columns) if is_free else None
        if named.source and named.target:
            draft = _draft_translation(file, named.columns, "as you said")
        elif sides:
            languages, names = sides
            draft = _draft_translation(file, languages, "named by its column")
            if len(names) == 2 and names != languages:
                draft.task |= {"text": names[0], "label": names[1]}
        elif (tags := find_tags(columns)) and (named.label or tags[1]) in tags[1:]:
            draft = _draft_tags(file, columns, named.label, *tags)
        else:
            if named.label is None:
                refuse_unsupported_shape(columns, str(path))
            instructions = _draft_instructions(file, columns) if is_free else None
            draft = instructions or _draft_labelled(file, rows, named, drop_unlabelled)
    unused = find_unused_columns(TaskSpec.model_validate(draft.task), columns)
    if identifier := _find_identifier({name: columns[name] for name in unused}):
        draft.add("id", identifier, "a different value in every row")
        unused.remove(identifier)
    if unused:
        draft.remarks += (f"{file.name}: {describe_unused_columns(unused)}",)
    if split_by is None:
        _add_test_file(draft, test)
    elif test is not None:
        raise DataError(
            f"its column {split_by} says which rows are the test.",
            where=str(path),
            remedy=f"Leave out {spell_option('test')}, or remove the column.",
        )
    else:
        del draft.task["test"], draft.reasons["test"]
        draft.add("split_by", split_by, "it says which rows are train and which are the test")
        draft.remarks = (f"{file.name}: {division}", *draft.remarks)
    _propose_splits(draft, columns)
    return draft


def _take_part_column(rows: list[Row], named: NamedColumns) -> tuple[str | None, str, list[Row]]:
    """The column that says which rows are train and which are not, in words; rows without it."""
    columns = gather_columns(rows).items()
    free = {n: c.distinct for n, c in columns if n not in named.columns and not LABEL.fullmatch(n)}
    split_by = find_part_column(free)
    if split_by is None:
        return None, "", rows
    *_, note = divide_rows(rows, split_by)
    rest = [{n: v for n, v in row.values.items() if n != split_by} for row in rows]
    rows = [replace(row, values=values) for row, values in zip(rows, rest, strict=True)]
    return split_by, f"{note.what} {note.remedy}".rstrip(), rows


def set_source_language(task: Mapping[str, object], source_lang: str) -> dict[str, object]:
    """The task from ``source_lang`` into its other language.

    Raises:
        DataError: it has no such language.
    """
    languages = (str(task["source_lang"]), str(task["target_lang"]))
    if source_lang == languages[0]:
        return dict(task)
    if source_lang != languages[1]:
        raise DataError(
            f'does not hold the language "{source_lang}".',
            where=str(task["train"]),
            remedy=f"It holds {languages[0]} and {languages[1]}.",
        )
    exchanged = {"source_lang": "target_lang", "target_lang": "source_lang"}
    if "text" in task:
        exchanged |= {"text": "label", "label": "text"}
    return {key: task[exchanged.get(key, key)] for key in task}


def _start_draft(file: Path, kind: str, reason: str, rows: str) -> InferredTask:
    """Name, kind and train, and the place of test."""
    draft = InferredTask()
    # The folder's name where the file is just called train.
    words = [w for w in re.split(r"[^A-Za-z0-9]+", file.stem) if w and w.lower() != "train"]
    words = words or [w for w in re.split(r"[^A-Za-z0-9]+", file.absolute().parent.name) if w]
    draft.add("name", "-".join(words).lower() or "my-task", "from the file's name")
    draft.add("kind", kind, reason)
    draft.add("train", str(file), rows)
    draft.add("test", str(file), "")
    return draft


def _draft_translation(file: Path, languages: Sequence[str], reason: str) -> InferredTask:
    """A translation, from a table or from the stem of two files."""
    rows = "both languages" if file.suffix else "without the ending: one file a language"
    draft = _start_draft(file, "translation", "two texts, called by their languages", rows)
    exchange = f"{reason}; exchange the two for the other direction, or say --from"
    draft.add("source_lang", languages[0], exchange)
    draft.add("target_lang", languages[1], reason)
    return draft


def _draft_instructions(file: Path, columns: Columns) -> InferredTask | None:
    """A text for each text (summaries, open questions), or a form whose columns need no names.

    Preferences are such forms.
    """
    rows = pluralise(len(next(iter(columns.values())).values), "row")
    for kind, of_answers in PREFERENCE_FORMS.items():
        unrated = "label" in of_answers.columns and find_verdict(columns) != "label"
        if set(of_answers.columns) <= set(columns) and not unrated:
            reason = f"columns {' and '.join(of_answers.columns)}, as {of_answers.title} has them"
            return _start_draft(file, kind, reason, rows)
    pair = match_texts(
        columns, "document|article|dialogue|text|body|besedilo", "summary|highlights|povzetek"
    )
    # No column beside them may be a label, by its name or its values.
    apart = ((n, c) for n, c in columns.items() if n not in pair and not ID.fullmatch(n))
    if any(LABEL.fullmatch(n) or NUMERIC_TARGET.fullmatch(n) or c.repeats for n, c in apart):
        pair = ()
    prompt = _SUMMARY_PROMPT if pair else ""
    if not pair:
        pair = match_texts(columns, "question|query|vprašanje|vprasanje", "answer|response|odgovor")
        if any(name not in pair and not ID.fullmatch(name) for name in columns):
            pair = ()
    if pair:
        reason = "a text is written for each text: check this guess"
        draft = _start_draft(file, "instruction", reason, rows)
        draft.uncertain.append("kind")
        draft.add("text", pair[0], "what the model reads")
        draft.add("label", pair[1], "what it shall write")
        if prompt:
            draft.add("prompt", prompt, "what stands around the text")
        return draft
    form = find_form(columns)
    if form is None:
        return None
    answers = columns[form.columns[-1]]
    are_labels = len(set(answers.texts)) <= len(answers.values) / 2 and answers.words <= 3
    if answers.is_plain and are_labels:
        return None
    reason = f"columns {' and '.join(form.columns)}, as {form.title} has them"
    return _start_draft(file, "instruction", reason, rows)


def _draft_tags(
    file: Path, columns: Columns, label: str | None, words: str, *tags: str
) -> InferredTask:
    """A tag for each word; ``tags`` are the columns that may have it, the likeliest first."""
    chosen = label or tags[0]
    rows = pluralise(len(columns[words].values), "row")
    reason = f"{words} and {chosen} hold as many values in each row"
    draft = _start_draft(file, "token_classification", reason, rows)
    behind = words == "tags"  # the last column of CoNLL
    draft.add("text", words, "the words, behind their tags" if behind else "the words")
    draft.add("label", chosen, "as you said" if label else "their tags")
    if not marks_entities(columns[chosen]):
        draft.add("metric", "token_accuracy", "no tag marks an entity (B-, I-)", uncertain=True)
    if "document" in columns:
        draft.add("group", "document", "sentences of one document stay together")
    return draft


def _draft_labelled(
    file: Path, rows: Sequence[Row], named: NamedColumns, drop_unlabelled: bool
) -> InferredTask:
    """A text, two texts, a text with choices or a table, with a label or several in each row.

    Raises:
        DataError: nothing looks like a label, or like a text; says how to name one.
    """
    columns = gather_columns(rows)
    sets = find_label_sets(columns, named.label)
    label, label_reason, is_vague_label = named.label or "", "as you said", False
    if sets and not label:
        label, label_reason = sets[0], "it holds several labels in a row"
    elif not label:
        candidate = next(_label_candidates(columns, named), None)
        if candidate is None:
            raise DataError(
                "no column looks like a label (few short values that repeat, or numbers).",
                where=str(file),
                remedy=f"Its columns are {', '.join(columns)}; say which one: "
                f"{spell_option('label', 'COLUMN')}.",
            )
        label, label_reason, is_vague_label = candidate
    of_labels, answers = sets or (label,), columns[label]
    inputs = {name: column for name, column in columns.items() if name not in of_labels}
    free = [name for name in inputs if name not in named.columns]
    identifier = _find_identifier({name: inputs[name] for name in free})
    inputs = {name: column for name, column in inputs.items() if name != identifier}
    open_columns = {} if sets else {n: c for n, c in inputs.items() if n in free}
    choices, choices_reason = _find_choices(open_columns)
    inputs = {name: column for name, column in inputs.items() if name not in choices}
    question = next((n for n in inputs if choices and _QUESTION.fullmatch(n)), None)
    # A context, and not the one word that names a subject.
    if question and any(c.holds_texts(3) for n, c in inputs.items() if n != question):
        inputs.pop(question)
    else:
        question = None
    features = [] if choices or named.text else _table_columns(inputs)
    text, pair, text_reason, is_vague_text = named.text, named.pair, "as you said", False
    if not features and not text:
        single = bool(choices or pair)
        text, second, text_reason, is_vague_text = _find_texts(inputs, str(file), single=single)
        pair = pair or second

    if sets:
        in_columns = "a column of 0 and 1 for each label"
        kind, kind_reason = "multilabel", in_columns if sets[1:] else "several labels in a row"
    elif choices:
        kind, kind_reason = "multiple_choice", choices_reason
    elif answers.is_measured:
        kind = "regression"
        kind_reason = f"{label} holds numbers; classification, if they are names of classes"
    elif pair:
        kind, kind_reason = "pair", "two texts in a row"
    else:
        kind = "classification"
        kind_reason = "columns of short values: a table" if features else "one text in a row"
    draft = _start_draft(file, kind, kind_reason, pluralise(len(rows), "row"))
    if features:
        draft.add("features", features, "each becomes a part of a sentence")
    else:
        draft.add("text", text, text_reason, uncertain=is_vague_text)
    if pair:
        draft.add("text_pair", pair, "the second text")
    if choices:
        draft.add("choices", list(choices), choices_reason)
    if question:
        draft.add("question", question, "asked after the text of each choice")
    if choices and (counted := _count_choices(columns, choices, answers)):
        draft.add("labels", counted, f"{label} counts the choices so")
    if sets[1:]:
        draft.add("labels", list(sets), kind_reason)
    else:
        draft.add("label", label, label_reason, uncertain=is_vague_label)
    labels = NULL_VALUES if choices else read_declared_labels(file, label) or ()
    labelled = rows
    if drop_unlabelled:
        labelled = [row for row in rows if not lacks_label(row, of_labels, labels)]
    if kind in ("classification", "pair") or len(sets) == 1:
        named_rows = list_labels(labelled, label)[0] if sets else labelled
        cells = [row.values.get(label) for row in named_rows]
        reason = "declared in the file"
        if not labels:
            labels = sort_labels({t for v in cells if (t := cell_text(v)) is not None})
            reason = f"{pluralise(len(labels), 'value')} of {label}, in order"
            nulls = find_null_labels(labelled, label, labels, listed=True)
            advice = "If these rows have none, drop them: --drop-unlabelled."
            draft.remarks += tuple(f"{finding.what} {advice}" for finding in nulls)
        draft.add("labels", list(labels), reason)
        draft.rows_per_label = len(cells) / len(labels) if labels[1:] and not sets else 0.0
        counts = Counter(text for v in cells if not sets and (text := cell_text(v)) is not None)
        if what := describe_imbalance(counts):
            draft.proposals["metric"] = ("macro_f1", "the labels are imbalanced")
            advice = "metric: macro_f1 and class_weights: balanced, comments in the study file,"
            draft.remarks += (f"{what} {advice} let the others count.",)
        alike = find_similar_labels(cells, labels, file.name)
        draft.remarks += tuple(f"{finding.what} {finding.remedy}" for finding in alike)
        broken = find_broken_lists(rows, label) if sets else []
        draft.remarks += tuple(map(str, summarise(broken)))
    unlabelled = [row for row in rows if lacks_label(row, of_labels, labels)]
    if drop_unlabelled:
        draft.add("drop_unlabelled", True, "as you said")
    elif 0 < len(unlabelled) < len(rows) and len(sets) == 1:
        remark = f"{describe_unlabelled(unlabelled, len(rows))} That is an empty set of labels."
        draft.remarks += (f"{remark} If nobody labelled them, drop them: --drop-unlabelled.",)
    elif 0 < len(unlabelled) < len(rows):
        remark = describe_unlabelled(unlabelled, len(rows))
        draft.remarks += (f"{remark} Fill them in, or drop them: --drop-unlabelled.",)
    return draft


def _find_identifier(columns: Columns) -> str | None:
    """The first column that is called like an identifier and differs in every row."""
    return next((n for n, c in columns.items() if ID.fullmatch(n) and c.is_unique), None)


def _label_candidates(columns: Columns, named: NamedColumns) -> Iterator[tuple[str, str, bool]]:
    """Columns that may be the label, the likeliest first, with why and whether to check it."""
    columns = {n: c for n, c in columns.items() if n not in (named.text, named.pair)}
    classes = {
        name: len(column.distinct)
        for name, column in columns.items()
        if column.repeats
        and len(column.distinct) <= 200
        and max(map(len, column.distinct)) <= MAX_LABEL_LENGTH
    }
    # More cells are empty than an oversight leaves: such a column is rarely the label.
    gaps = {
        name
        for name, column in columns.items()
        if sum(cell_text(v) is None for v in column.values) > len(column.values) / 10
    }
    for names in ([name for name in columns if name not in gaps], list(columns)):
        for name in names:
            telling = LABEL.fullmatch(name) or NUMERIC_TARGET.fullmatch(name)
            if telling and columns[name].is_measured:
                yield name, "its name, and it holds numbers", False
        for name in names:
            if LABEL.fullmatch(name) and name in classes:
                yield name, f"its name, and its {classes[name]} different values", False
    check = "check this guess, or say --label"
    *first, last = columns
    numeric = last in classes or columns[last].is_measured
    if numeric and not named.text and _table_columns({name: columns[name] for name in first}):
        yield last, f"the last column of a table: {check} COLUMN", True
    called = [name for name in columns if LABEL.fullmatch(name)]
    if classes and not called:
        best = min(classes, key=lambda name: (name in gaps, classes[name]))
        which = "columns with few gaps" if gaps and best not in gaps else "columns"
        reason = f"of the {which} it has the fewest different values ({classes[best]})"
        yield best, f"{reason}: {check}", True
    for name in called:
        column = columns[name]
        values = pluralise(len({*map(cell_text, column.values)} - {None}), "different value")
        rows = pluralise(len(column.values), "row")
        yield name, f"its name, though it holds {values} in {rows}", True
    measured = [name for name, column in columns.items() if column.is_measured]
    if len(measured) == 1:
        yield measured[0], f"the only column of numbers: {check}", True


def _table_columns(columns: Columns) -> list[str]:
    """All columns if none holds sentences and at least one holds numbers; otherwise none."""
    numeric = [name for name, column in columns.items() if column.numbers is not None]
    short = all(column.is_plain and column.words < 4 for column in columns.values())
    named = any(_TEXT.fullmatch(name) and name not in numeric for name in columns)
    return list(columns) if numeric and short and not named else []


def _find_choices(columns: Columns) -> tuple[tuple[str, ...], str]:
    """The columns of the choices, or the one that lists them, and why."""
    stems: dict[str, list[str]] = {}
    for name in columns:
        if match := _CHOICE.fullmatch(name):
            stems.setdefault(match.group(1).casefold(), []).append(name)
    for stem, names in stems.items():
        if len(names) > 1:
            numbers = {name: int(re.sub(r".*?(\d*)$", r"\1", name) or 0) for name in names}
            ordered = sorted(names, key=lambda name: (numbers[name], name))
            return tuple(ordered), f"several columns called {stem}"
    for name, column in columns.items():
        cells = [read_options(value)[1] for value in column.values]
        if _CHOICES.fullmatch(name) and all(
            len(texts) > 1 and all(isinstance(text, str | int | float) for text in texts)
            for texts in cells
        ):
            return (name,), f"{name} holds the choices of every row"
    return (), ""


def _count_choices(columns: Columns, choices: Sequence[str], answers: DataColumn) -> list[str]:
    """The names by which labels count the choices, if they count from 1 or by letters."""
    names = choices if len(choices) > 1 else read_options(columns[choices[0]].values[0])[0]
    numbers = [str(number) for number in range(1, len(names) + 1)]
    letters = [*ascii_uppercase[: len(names)]]
    labels = {text.upper() for text in answers.distinct}
    if labels & {*names}:  # the rows themselves name them
        return []
    if labels <= {*numbers} and numbers[-1] in labels:
        return numbers
    return letters if labels and labels <= {*letters} else []


def _find_texts(columns: Columns, where: str, *, single: bool) -> tuple[str, str | None, str, bool]:
    """The columns of one text or two, why, and whether that is to be checked."""
    size = {
        name: sum(map(len, c.texts)) / len(c.values) for name, c in columns.items() if c.is_text
    }
    if not size or max(size.values()) < 1:
        raise DataError(
            "no column looks like text.",
            where=where,
            remedy=f"Name one with {spell_option('text', 'COLUMN')}. Apart from label and id "
            f"there is {', '.join(columns) or 'no column'}.",
        )
    lower = {name.casefold(): name for name in size}
    for first, second in _TEXT_PAIRS:
        if not single and first in lower and second in lower:
            return lower[first], lower[second], "a known pair of names", False
    named = [name for name in size if _TEXT.fullmatch(name)]
    text = max(named or size, key=lambda name: size[name])
    reason = "its name" if named else "the column with the longest texts: check this guess"
    return text, None, reason, not named


def _language_columns(columns: Columns) -> tuple[tuple[str, str], tuple[str, ...]] | None:
    """The two languages of columns that are each other's translation, and the columns; or None.

    Languages that the columns do not name are called as the columns are.
    """
    columns = {n: c for n, c in columns.items() if not (ID.fullmatch(n) and c.is_unique)}
    if list(columns) == [_NESTED]:
        first, *rest = columns[_NESTED].values
        if isinstance(first, dict) and len(first) == 2 and all(isinstance(v, dict) for v in rest):
            source, target = map(str, first)
            return (source, target), (_NESTED,)
        return None
    # Columns of codes may be called ``id`` and ``no`` too.
    if len(columns) != 2 or not all(c.is_text and c.words >= 1.5 for c in columns.values()):
        return None
    names = tuple(columns)
    if (names[0].casefold(), names[1].casefold()) in _SIDES:
        return (names[0], names[1]), names
    sources, targets = (
        [code for word in re.split(r"[\W_]+", name) if (code := language_code(word)) in CODES]
        for name in names
    )
    if len(sources) == len(targets) == 1 and sources != targets:
        return (sources[0], targets[0]), names
    return None


def _languages_of_files(file: Path) -> tuple[str, str] | None:
    """The languages of a file (``corpus.sl``) and of the only one of that name (``corpus.en``).

    It is None where the extension is not a language. Raises:
        DataError: no such file in the same folder, or several.
    """
    language = file.suffix[1:]
    if language not in CODES or not file.is_file():
        return None
    siblings = (p for p in file.parent.glob("*") if p.stem == file.stem and p != file)
    rest = sorted(p.suffix[1:] for p in siblings if p.suffix[1:] in CODES)
    if len(rest) != 1:
        raise DataError(
            f"looks like one side of parallel text, with {len(rest)} files in other languages in "
            "the same folder.",
            where=str(file),
            remedy=f"Put one in the same folder, named {file.stem}.LANGUAGE (such as "
            f"{file.stem}.en).",
        )
    return language, rest[0]


def _add_test_file(draft: InferredTask, test: str | None) -> None:
    """Name the test file: the user's, or one in the folder of train that is called like it.

    Args:
        test: the user's file, or :data:`NO_TEST`; None: a file that is there.

    Raises:
        DataError: the file that the user names does not fit.
    """
    train, remarks = Path(draft.task["train"]), []
    chosen, reason = test, "as you said"
    if test == NO_TEST:
        chosen, reason = None, f"--test {NO_TEST}: {HELD_OUT}"
    elif test is not None and (misfit := _find_misfit(draft.task, test)):
        raise DataError(
            f"cannot be the test file: {misfit}.",
            where=test,
            remedy=f"Name another file, or {spell_option('test', NO_TEST)}: {HELD_OUT}.",
        )
    for word in ("test", "validation", "valid", "val", "dev") if test is None else ():
        name = train.name.replace("train", word) if "train" in train.name else word + train.suffix
        file = train.with_name(name)
        languages = (f".{draft.task[key]}" for key in ("source_lang", "target_lang"))
        endings = [""] if train.suffix else languages
        if file == train or not any(Path(f"{file}{ending}").is_file() for ending in endings):
            continue
        if chosen is not None:
            used = f"{Path(chosen).name} is the test, and {_SELECTION}"
            remarks.append(f"{name} is not used: {used}.")
        elif misfit := _find_misfit(draft.task, str(file)):
            remarks.append(f"{name} is not used: {misfit}.")
        else:
            chosen = str(file)
            part = f"the test (and {_SELECTION})" if word != "test" else "the test"
            remarks.append(
                f"{name} in the same folder is taken as {part}; --test {NO_TEST} leaves it out."
            )
    if test is None:
        reason = "found in the same folder" if chosen else f"no test file that fits: {HELD_OUT}"
    draft.task["test"], draft.reasons["test"] = chosen, reason
    if chosen is None:
        del draft.task["test"]
    draft.remarks = (*remarks, *draft.remarks)


def _propose_splits(draft: InferredTask, columns: Columns) -> None:
    """Columns by which the rows may be split: those that repeat, and dates."""
    task = draft.task
    if "text" not in task and "features" not in task:
        return
    lists = (value for value in task.values() if isinstance(value, list | tuple))
    used = {*map(str, task.values()), *(name for names in lists for name in names)}
    if "group" not in task:
        for name, reason in find_possible_groups(columns, used).items():
            draft.proposals.setdefault("group", (name, f"{reason}: one value, one side of a split"))
            draft.remarks += (
                f"{name} is not used and repeats ({reason}): if rows of one value hang together, "
                f"write group: {name} into the task.",
            )
    dates = [name for name, c in columns.items() if name not in used and c.holds_dates]
    if dates and not {"test", "split_by"} & {*task}:
        draft.proposals["split_by"] = (dates[0], "dates: the newest fifth is the test, then")


def _find_misfit(task: Mapping[str, Any], file: str) -> str:
    """Why a task cannot be tested on a file, as the end of a sentence; empty if it can."""
    drop_unlabelled = not objectives.get(task["kind"]).generates
    trial = {**task, "train": file, "test": file, "drop_unlabelled": drop_unlabelled}
    try:
        load_dataset(TaskSpec.model_validate(trial))
    except InvalidRowsError as error:
        first, *rest = dict.fromkeys(error.findings)  # train and test are one file
        several = f", and {pluralise(len(rest), 'more fault')}" if rest else ""
        return f"{first.where}: {first.what.rstrip('.')}{several}"
    except DataError as error:
        return f"{error.where}: {error.what.rstrip('.')}"
    return ""
