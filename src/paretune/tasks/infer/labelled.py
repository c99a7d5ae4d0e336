"""A label, or several, in each row of texts, of texts with choices, or of a table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import ascii_uppercase

from paretune.data.columns import NULL_VALUES, cell_text, gather_columns, read_options
from paretune.data.finding import summarise
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
from paretune.data.rows import Row, read_declared_labels
from paretune.errors import DataError, spell_option
from paretune.tasks.infer.draft import InferredTask, NamedColumns, start_draft
from paretune.tasks.shapes import (
    LABEL,
    MAX_LABEL_LENGTH,
    NUMERIC_TARGET,
    Columns,
    find_identifier,
    find_label_sets,
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


def draft_labelled(
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
    of_labels = sets or (label,)
    inputs = {name: column for name, column in columns.items() if name not in of_labels}
    draft = start_draft(file, "classification", "one text in a row", pluralise(len(rows), "row"))
    _add_inputs(draft, inputs, named, choices=not sets)
    if sets:
        in_columns = "a column of 0 and 1 for each label"
        draft.add("kind", "multilabel", in_columns if sets[1:] else "several labels in a row")
    elif "choices" in draft.task:
        draft.add("kind", "multiple_choice", draft.reasons["choices"])
    elif columns[label].is_measured:
        reason = f"{label} holds numbers; classification, if they are names of classes"
        draft.add("kind", "regression", reason)
    elif "text_pair" in draft.task:
        draft.add("kind", "pair", "two texts in a row")
    elif "features" in draft.task:
        draft.add("kind", "classification", "columns of short values: a table")
    if choices := draft.task.get("choices"):
        options = choices if len(choices) > 1 else read_options(columns[choices[0]].values[0])[0]
        numbers = [str(number) for number in range(1, len(options) + 1)]
        letters = [*ascii_uppercase[: len(options)]]
        answers = {text.upper() for text in columns[label].distinct}
        counted = letters if answers and answers <= {*letters} else []
        if answers <= {*numbers} and numbers[-1] in answers:
            counted = numbers
        # Nothing is counted where the rows themselves name their choices.
        if counted and not answers & {*options}:
            draft.add("labels", counted, f"{label} counts the choices so")
    if sets[1:]:
        draft.add("labels", list(sets), draft.reasons["kind"])
    else:
        draft.add("label", label, label_reason, uncertain=is_vague_label)
    _add_labels(draft, file, rows, of_labels, drop_unlabelled)
    return draft


def _add_inputs(draft: InferredTask, columns: Columns, named: NamedColumns, choices: bool) -> None:
    """What the model reads: a text, two, a text with choices, or the columns of a table.

    Args:
        columns: all but those of labels.
        choices: whether there may be some.
    """
    free = {name: column for name, column in columns.items() if name not in named.columns}
    identifier = find_identifier(free)
    free.pop(identifier or "", None)
    options, options_reason = _find_choices(free) if choices else ((), "")
    apart = (identifier, *options)
    inputs = {name: column for name, column in columns.items() if name not in apart}
    question = next((n for n in inputs if options and _QUESTION.fullmatch(n)), None)
    # A context, and not the one word that names a subject.
    if question and any(c.holds_texts(3) for n, c in inputs.items() if n != question):
        inputs.pop(question)
    else:
        question = None
    pair = named.pair
    if named.text:
        draft.add("text", named.text, "as you said")
    elif not options and (features := _table_columns(inputs)):
        draft.add("features", features, "each becomes a part of a sentence")
    else:
        size = {n: sum(map(len, c.texts)) / len(c.values) for n, c in inputs.items() if c.is_text}
        if not size or max(size.values()) < 1:
            raise DataError(
                "no column looks like text.",
                where=draft.task["train"],
                remedy=f"Name one with {spell_option('text', 'COLUMN')}. Apart from label and id "
                f"there is {', '.join(inputs) or 'no column'}.",
            )
        lower = {name.casefold(): name for name in size}
        pairs = [two for two in _TEXT_PAIRS if lower.keys() >= {*two} and not (options or pair)]
        called = [name for name in size if _TEXT.fullmatch(name)]
        longest = max(called or size, key=lambda name: size[name])
        if pairs:
            text, pair = (lower[name] for name in pairs[0])
            draft.add("text", text, "a known pair of names")
        elif called:
            draft.add("text", longest, "its name")
        else:
            reason = "the column with the longest texts: check this guess"
            draft.add("text", longest, reason, uncertain=True)
    if pair:
        draft.add("text_pair", pair, "the second text")
    if options:
        draft.add("choices", list(options), options_reason)
    if question:
        draft.add("question", question, "asked after the text of each choice")


def _add_labels(
    draft: InferredTask,
    file: Path,
    rows: Sequence[Row],
    of_labels: Sequence[str],
    drop_unlabelled: bool,
) -> None:
    """The labels where they are names, and what is remarkable in them; rows without one.

    Args:
        of_labels: the column of labels, or those of 0 and 1.
    """
    kind = draft.task["kind"]
    label = of_labels[0]
    is_set = kind == "multilabel" and len(of_labels) == 1
    labels: tuple[str, ...] = NULL_VALUES  # a choice may well read so
    if kind != "multiple_choice":
        labels = read_declared_labels(file, label) or ()
    labelled = rows
    if drop_unlabelled:
        labelled = [row for row in rows if not lacks_label(row, of_labels, labels)]
    if kind in ("classification", "pair") or is_set:
        named_rows = list_labels(labelled, label)[0] if is_set else labelled
        cells = [row.values.get(label) for row in named_rows]
        reason = "declared in the file"
        if not labels:
            labels = sort_labels({t for v in cells if (t := cell_text(v)) is not None})
            reason = f"{pluralise(len(labels), 'value')} of {label}, in order"
            nulls = find_null_labels(labelled, label, labels, listed=True)
            advice = "If these rows have none, drop them: --drop-unlabelled."
            draft.remarks += tuple(f"{finding.what} {advice}" for finding in nulls)
        draft.add("labels", list(labels), reason)
        if not is_set:
            draft.rows_per_label = len(cells) / len(labels) if labels[1:] else 0.0
            counts = Counter(text for v in cells if (text := cell_text(v)) is not None)
            if what := describe_imbalance(counts):
                draft.proposals["metric"] = ("macro_f1", "the labels are imbalanced")
                advice = "metric: macro_f1 and class_weights: balanced, comments in the study file,"
                draft.remarks += (f"{what} {advice} let the others count.",)
        alike = find_similar_labels(cells, labels, file.name)
        draft.remarks += tuple(f"{finding.what} {finding.remedy}" for finding in alike)
        broken = find_broken_lists(rows, label) if is_set else []
        draft.remarks += tuple(map(str, summarise(broken)))
    unlabelled = [row for row in rows if lacks_label(row, of_labels, labels)]
    if drop_unlabelled:
        draft.add("drop_unlabelled", True, "as you said")
    elif 0 < len(unlabelled) < len(rows):
        what = describe_unlabelled(unlabelled, len(rows))
        advice = "Fill them in, or drop them: --drop-unlabelled."
        if is_set:
            advice = (
                "That is an empty set of labels. "
                "If nobody labelled them, drop them: --drop-unlabelled."
            )
        draft.remarks += (f"{what} {advice}",)


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
