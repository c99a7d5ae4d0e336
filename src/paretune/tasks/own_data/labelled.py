"""Own data with a label in each row: texts, or a table whose rows become sentences.

Labels are those that the study lists, or those that the file declares, or those that are found,
sorted; which it was is noted. Without a test file a stratified fifth of train, groups together,
becomes the test part, and that is noted too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from paretune import objectives
from paretune.data import hub
from paretune.data.build import (
    BuildResult,
    ColumnMapping,
    InvalidLabel,
    LabelParser,
    Texts,
    build_examples,
    class_label_parser,
    make_missing_label,
    parse_number_label,
)
from paretune.data.columns import convert_decimal_commas, make_row_template
from paretune.data.example import Dataset, Example, Segments
from paretune.data.finding import Finding, raise_for_findings
from paretune.data.labels import (
    cell_text,
    check_label_order,
    collapse_label_problems,
    decode_label_ids,
    describe_unlabelled,
    determine_labels,
    match_choice,
)
from paretune.data.rows import Row, gather_columns, read_declared_labels, read_rows
from paretune.data.shapes import holds_label_sets, refuse_unsupported_shape
from paretune.data.split import assign_folds
from paretune.errors import DataError, StudyError
from paretune.study import TaskSpec, derive_seed
from paretune.terminal.plural import pluralise

QUESTIONS = {
    "en": {"cause": "What was the cause of this?", "effect": "What happened as a result?"},
    "sl": {"cause": "Kaj je bil vzrok za to?", "effect": "Kaj se je zato zgodilo?"},
}
"""By language: how COPA's two words are asked."""


def expand_choice_columns(
    rows: Sequence[Row], choices: Sequence[str]
) -> tuple[list[Row], tuple[str, ...]]:
    """Rows with one column for each choice, and those columns' names.

    A single column of lists, ``choices: [options]``, becomes ``options[0]``, ``options[1]``, ...

    Raises:
        DataError: fewer than two choices, or lists of different lengths (every such row is named).
    """
    if len(choices) > 1:
        return list(rows), tuple(choices)
    name = choices[0]
    lists = [row.values.get(name) for row in rows]
    first = next((v for v in lists if isinstance(v, list)), None)
    if first is None or len(first) < 2:
        raise DataError(
            f'"{name}" is one column and holds no lists; there must be two choices at least.',
            where=rows[0].where,
            remedy="Name a column for each choice, or one that holds lists.",
        )
    names = tuple(f"{name}[{i}]" for i in range(len(first)))
    raise_for_findings(
        [
            Finding(
                "error",
                "ragged-choices",
                row.where,
                f'"{name}" holds {len(v) if isinstance(v, list) else "no"} choices, '
                f"{rows[0].where} holds {len(names)}.",
                "Every row must have as many choices; leave out the others.",
            )
            for row, v in zip(rows, lists, strict=True)
            if not isinstance(v, list) or len(v) != len(names)
        ]
    )
    return [
        replace(row, values={**row.values, **dict(zip(names, v, strict=True))})
        for row, v in zip(rows, lists, strict=True)
        if isinstance(v, list)
    ], names


def make_choice_resolver(columns: Sequence[str], names: Sequence[str] | None) -> LabelParser:
    """Resolve a label to a choice: index from 0, column, text, or one of ``names``.

    Raises:
        DataError: ``names`` are given, but not one for each choice.
    """
    if names is not None and len(names) != len(columns):
        raise DataError(
            f"labels names {len(names)} choices, and there are {len(columns)}.",
            remedy="List a label for each choice, in their order, or leave labels out.",
        )

    def resolve(value: object, texts: Texts) -> int | InvalidLabel:
        if cell_text(value) is None:
            return make_missing_label()
        choice = match_choice(value, columns, [texts[c] for c in columns], names)
        if isinstance(choice, int):
            return choice
        remedy = "Fix the row; labels that count from 1 are listed as labels: [1, 2, ...]."
        return InvalidLabel("unknown-label", choice, remedy)

    return resolve


@dataclass(frozen=True)
class _OwnRows:
    """What was read: rows of the parts, labels that the files declare, notes, and from where."""

    train: list[Row]
    test: list[Row] | None
    declared: tuple[str, ...] | None
    notes: Sequence[Finding]
    source: str
    shifted: Sequence[Row] = ()


@dataclass(frozen=True)
class _Targets:
    """How rows become examples with a label: rows as they are read, label names, notes."""

    rows: _OwnRows
    mapping: ColumnMapping
    labels: tuple[str, ...]
    notes: Sequence[Finding] = ()


def read_labels(spec: TaskSpec, rows: _OwnRows) -> _Targets:
    """Each row has one of several labels: listed in the study, declared in the file, or found."""
    rows, notes = _convert_decimals(rows, spec.features or ())
    labels, label_notes = determine_labels(
        rows.train, rows.test or [], str(spec.label), spec.labels, rows.declared
    )
    mapping = replace(_make_mapping(spec, (), class_label_parser(labels)), label_names=labels)
    sets = []
    if holds_label_sets([row.values.get(str(spec.label)) for row in rows.train]):
        what = f'"{spec.label}" holds several labels in a row; each combination is a class.'
        remedy = "paretune gives each row one label: keep one, or write a column for each."
        sets.append(Finding("warning", "label-sets", rows.train[0].where, what, remedy))
    return _Targets(rows, mapping, labels, [*notes, *label_notes, *sets])


def read_choices(spec: TaskSpec, rows: _OwnRows) -> _Targets:
    """Each row has several choices, and its label says which one is right."""
    rows, options = _expand_choices(rows, spec.choices or ())
    resolver = make_choice_resolver(options, spec.labels or rows.declared)
    labels = tuple(str(i) for i in range(len(options)))
    return _Targets(rows, _make_mapping(spec, options, resolver), labels)


def read_numbers(spec: TaskSpec, rows: _OwnRows) -> _Targets:
    """Each row has a number; its column gives the only label name."""
    label = str(spec.label)
    rows, notes = _convert_decimals(rows, [label, *(spec.features or ())])
    return _Targets(rows, _make_mapping(spec, (), parse_number_label), (label,), notes)


def load_labelled(
    spec: TaskSpec, read_targets: Callable[[TaskSpec, _OwnRows], _Targets]
) -> Dataset:
    """Read texts or tables with a label in each row.

    Raises:
        StudyError: the study asks for a template that own data cannot have.
        DataError: unreadable files, a hub dataset that was never fetched, missing columns, rows
            that cannot become examples; all such rows are named at once.
    """
    if spec.template != "pair" and not spec.features:
        raise StudyError(
            f'task {spec.key} has no template "{spec.template}".',
            remedy="Texts of your own are encoded as they are: remove template.",
        )
    raw = _read_hub(spec) if spec.dataset is not None else _read_files(spec)
    targets = read_targets(spec, _drop_unlabelled(raw, str(spec.label), drop=spec.drop_unlabelled))
    rows, mapping, label = targets.rows, targets.mapping, str(spec.label)
    train = build_examples(rows.train, mapping, "train")
    test = BuildResult() if rows.test is None else build_examples(rows.test, mapping, "test")
    shifted = build_examples(rows.shifted, mapping, "test_shifted")
    problems = [
        problem
        for part, of in ((train, rows.train), (test, rows.test or []), (shifted, rows.shifted))
        for problem in collapse_label_problems(part.errors, of, label)
    ]
    if any(problem.code in ("not-text", "not-label") for problem in problems):
        refuse_unsupported_shape(gather_columns(raw.train), raw.source)
    raise_for_findings(problems)
    notes = [*rows.notes, *targets.notes, *train.notes, *test.notes, *shifted.notes]
    train_examples, test_examples = train.examples, test.examples
    if rows.test is None:
        train_examples, test_examples, note = _hold_out(train.examples)
        notes.append(note)
    limit = spec.limit or {}
    return Dataset(
        task=spec.key,
        kind=str(spec.kind),
        labels=targets.labels,
        train=tuple(train_examples[: limit.get("train")]),
        test=tuple(test_examples[: limit.get("test")]),
        shifted=tuple(shifted.examples[: limit.get("test_shifted")]),
        metric=spec.metric or objectives.get(str(spec.kind)).default_metric,
        features=spec.features or (),
        language=spec.language,
        licence=spec.licence or "not stated",
        source=rows.source,
        findings=tuple(notes),
        clustered=spec.group is not None,
    )


def _read_files(spec: TaskSpec) -> _OwnRows:
    label, train = str(spec.label), str(spec.train)
    declared = read_declared_labels(train, label)
    rows = decode_label_ids(read_rows(train), label, declared)
    parts: list[list[Row] | None] = []
    notes: list[Finding] = []
    for path in (spec.test, spec.test_shifted):
        if path is None:
            parts.append(None)
            continue
        others = read_declared_labels(path, label)
        parts.append(decode_label_ids(read_rows(path), label, others))
        notes += check_label_order(declared, others, Path(path).name, "the train file declares")
    named = filter(None, (train, spec.test, spec.test_shifted))
    source = ", ".join(path.rpartition("/")[2] for path in named)
    return _OwnRows(rows, parts[0], declared, notes, source, parts[1] or ())


def _drop_unlabelled(read: _OwnRows, column: str, *, drop: bool) -> _OwnRows:
    """The rows that have a label, with a note on the others; all of them where none is dropped."""
    kept, notes = [], list(read.notes)
    for rows in (read.train, read.test or [], read.shifted):
        labelled = [row for row in rows if cell_text(row.values.get(column)) is not None]
        if not drop or not labelled:  # without any, the column's name is wrong
            kept.append(list(rows))
            continue
        kept.append(labelled)
        if len(labelled) < len(rows):
            places = [row.where for row in rows if cell_text(row.values.get(column)) is None]
            what = f"{describe_unlabelled(places, len(rows))} They are left out."
            where = places[0].rsplit(" ", 2)[0]
            remedy = "Nothing to do: the task says drop_unlabelled: true."
            notes.append(Finding("note", "unlabelled-dropped", where, what, remedy))
    test = None if read.test is None else kept[1]
    return replace(read, train=kept[0], test=test, shifted=kept[2], notes=notes)


def _read_hub(spec: TaskSpec) -> _OwnRows:
    loaded = hub.load_splits(spec)
    label = str(spec.label)
    test = loaded.test
    return _OwnRows(
        train=decode_label_ids(loaded.train, label, loaded.declared),
        test=None if test is None else decode_label_ids(test, label, loaded.declared),
        declared=loaded.declared,
        notes=loaded.findings,
        source=f"{spec.dataset} at commit {loaded.commit} (hub)",
        shifted=decode_label_ids(loaded.shifted or [], label, loaded.declared),
    )


def _expand_choices(read: _OwnRows, choices: Sequence[str]) -> tuple[_OwnRows, tuple[str, ...]]:
    all_rows = [*read.train, *(read.test or []), *read.shifted]
    rows, options = expand_choice_columns(all_rows, choices)
    cut, end = len(read.train), len(all_rows) - len(read.shifted)
    test = None if read.test is None else rows[cut:end]
    return replace(read, train=rows[:cut], test=test, shifted=rows[end:]), options


def _convert_decimals(read: _OwnRows, columns: Sequence[str]) -> tuple[_OwnRows, list[Finding]]:
    """Columns of numbers with decimal points, where they were written with commas."""
    (train, test, shifted), notes = convert_decimal_commas(
        (read.train, read.test or [], read.shifted), columns
    )
    kept = None if read.test is None else test
    return replace(read, train=train, test=kept, shifted=shifted), notes


def _phrase_question(spec: TaskSpec, text: str) -> str:
    """A question as it is; COPA's two words as COPA asks them, in a language that it has."""
    return QUESTIONS.get(spec.language or "", {}).get(text, text)


def _make_mapping(
    spec: TaskSpec, options: Sequence[str], parse_label: LabelParser
) -> ColumnMapping:
    text, second, group = str(spec.text), spec.text_pair, spec.group
    question = spec.question
    others = [column for column in (second if not options else None, question) if column]
    row_template = None
    if spec.features:
        own = None if spec.template == "pair" else spec.template
        row_template = make_row_template(spec.features, own)

    def template(texts: Mapping[str, str]) -> Segments:
        if row_template is not None:
            return row_template(texts)
        if options:
            first = texts[text]
            if question is not None:
                first = f"{first} {_phrase_question(spec, texts[question])}"
            return tuple((first, texts[option]) for option in options)
        return ((texts[text], texts[second] if second else None),)

    return ColumnMapping(
        columns=[] if row_template else [text, *others, *options],
        features=spec.features or (),
        template=template,
        label=str(spec.label),
        parse_label=parse_label,
        id=spec.id,
        group=(lambda values: cell_text(values.get(group))) if group else (lambda values: None),
        required_columns=[group] if group else [],
    )


def _hold_out(examples: list[Example]) -> tuple[list[Example], list[Example], Finding]:
    """Train without part 0, and part 0: always the same fifth of the same rows."""
    placed = assign_folds(examples, derive_seed(0, "hold out"))
    train = [e for e, part in zip(examples, placed, strict=True) if part != 0]
    test = [e for e, part in zip(examples, placed, strict=True) if part == 0]
    note = Finding(
        "note",
        "test-held-out",
        test[0].where if test else examples[0].where,
        f"no test file: {len(test)} of {pluralise(len(examples), 'row')} of train are the test "
        "part, stratified, with groups together (this is the first of them).",
        "Give the task test: FILE to decide it yourself.",
    )
    return train, test, note
