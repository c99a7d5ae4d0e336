"""From rows to examples. All problems are collected, so that they are reported at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from paretune.data.columns import feature_texts, parse_number, read_features
from paretune.data.example import Example, Message, Segments
from paretune.data.finding import Finding
from paretune.data.labels import cell_text, match_label
from paretune.data.rows import Row
from paretune.study import Label
from paretune.study.aliases import suggest

Texts = Mapping[str, str]
LabelParser = Callable[[object, Texts], "Label | InvalidLabel"]


@dataclass(frozen=True)
class InvalidLabel:
    """Why a label has no index, and what to do."""

    code: str
    what: str
    remedy: str


@dataclass(frozen=True)
class ColumnMapping:
    """How a row becomes an example.

    Attributes:
        parse_label: from the label's value (and the texts) to an index, or a :class:`InvalidLabel`.
        id: column of the identifier; rows are counted where None.
        group: from a row's values to the name of what must stay together, or None.
        question: the same for the question that a row is one answer to.
        required_columns: further columns that must be there (the group's).
        label_names: label names, where a spelling that differs from them shall be noted.
        features: columns of a table. Their values may be missing, and the template gets the texts
            of those that are there.
        target: of a translation or an instruction, the column of the reference or completion (one
            of ``columns``); then no text may be empty, and ``label`` and ``parse_label`` are not
            looked at.
        messages: from a row's values to the conversation before the completion.
    """

    columns: Sequence[str]
    template: Callable[[Texts], Segments]
    label: str
    parse_label: LabelParser
    id: str | None = None
    group: Callable[[Mapping[str, object]], str | None] = lambda values: None
    question: Callable[[Mapping[str, object]], str | None] = lambda values: None
    required_columns: Sequence[str] = ()
    label_names: tuple[str, ...] | None = None
    features: Sequence[str] = ()
    target: str | None = None
    messages: Callable[[Mapping[str, object]], tuple[Message, ...]] = lambda values: ()


@dataclass
class BuildResult:
    """Examples of one part, what stands in the way (``errors``), what is said (``notes``)."""

    examples: list[Example] = field(default_factory=list)
    errors: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)


def build_examples(
    rows: Sequence[Row], mapping: ColumnMapping, split: str, *, labelled: bool = True
) -> BuildResult:
    """Examples of one part (``train``, ``test``, ``unlabelled``), in the order of the rows.

    Uids are ``part:id``, made unique by the row's position (``train:2#4``) where a file repeats
    an id. With ``labelled`` false, labels are not looked at.
    """
    built = BuildResult()
    columns = [*mapping.columns, *mapping.features, *mapping.required_columns]
    labelled = labelled and mapping.target is None
    columns += [mapping.label] if labelled else []
    columns += [mapping.id] if mapping.id else []
    if rows and (absent := _find_missing_columns(rows, columns)):
        built.errors += absent
        return built
    seen: set[str] = set()
    repeated: list[Row] = []
    respelt: list[Row] = []
    for position, row in enumerate(rows):
        texts, faults = _read_texts(row, mapping.columns, blank=mapping.target is None)
        features, unfit = read_features(row, mapping.features)
        faults += unfit
        label: Label | None = None
        if labelled and not faults:
            parsed = _parse_label(row.values.get(mapping.label), mapping, texts)
            if isinstance(parsed, InvalidLabel):
                faults.append(Finding("error", parsed.code, row.where, parsed.what, parsed.remedy))
            else:
                label = parsed
        if faults:
            built.errors += faults
            continue
        name = cell_text(row.values.get(mapping.id)) if mapping.id else str(position)
        uid = f"{split}:{position if name is None else name}"
        if uid in seen:
            repeated.append(row)
            uid = f"{uid}#{position}"
        seen.add(uid)
        if label is not None and mapping.label_names is not None:
            written = cell_text(row.values.get(mapping.label))
            respelt += [row] if written not in mapping.label_names else []
        group, question = mapping.group(row.values), mapping.question(row.values)
        segments = mapping.template(texts | feature_texts(row, mapping.features))
        target = texts[mapping.target] if mapping.target else None
        messages = mapping.messages(row.values)
        built.examples.append(
            Example(uid, segments, label, row.where, group, features, question, target, messages)
        )
    if repeated:
        built.notes.append(_repeated_ids_note(repeated, mapping.id or ""))
    if respelt:
        built.notes.append(_label_spelling_note(respelt, mapping))
    return built


def class_label_parser(
    names: Sequence[str], aliases: Mapping[str, str] | None = None
) -> LabelParser:
    """Resolve a label among names, with a fault that lists them."""

    def resolve(value: object, texts: Texts) -> int | InvalidLabel:
        if cell_text(value) is None:
            return make_missing_label()
        index = match_label(value, names, aliases)
        if index is not None:
            return index
        return InvalidLabel(
            "unknown-label",
            f'label "{cell_text(value)}" is not one of {", ".join(names)}.',
            "Fix the row, or add it to labels.",
        )

    return resolve


def parse_number_label(value: object, texts: Texts) -> float | InvalidLabel:
    """Resolve the label of a regression: a finite number, as a number or as text."""
    written = cell_text(value)
    if written is None:
        return make_missing_label()
    number = parse_number(value)
    if number is not None:
        return number
    return InvalidLabel(
        "not-a-number",
        f'"{written}" is not a finite number.',
        "Fix the row, or make the task a classification.",
    )


def make_missing_label() -> InvalidLabel:
    """The fault of a row whose label is empty."""
    return InvalidLabel("missing-label", "has no label.", "Give it one, or remove the row.")


def _parse_label(value: object, recipe: ColumnMapping, texts: Texts) -> Label | InvalidLabel:
    if isinstance(value, list | dict):
        what = f'holds a {type(value).__name__} in "{recipe.label}"; a row has one label.'
        return InvalidLabel("not-label", what, "Keep one label in each row.")
    return recipe.parse_label(value, texts)


def _read_texts(
    row: Row, columns: Iterable[str], *, blank: bool
) -> tuple[dict[str, str], list[Finding]]:
    """The texts of a row; an empty one is a fault unless it may be ``blank``."""
    texts, faults = {}, []
    for column in columns:
        value = row.values.get(column)
        if isinstance(value, str) and not blank and not value.strip():
            value = None
        if isinstance(value, str):
            texts[column] = value
        elif isinstance(value, int | float) and not isinstance(value, bool) and value == value:
            texts[column] = str(value)
        else:
            missing = value is None or value != value
            what = "has no text" if missing else f"holds a {type(value).__name__}, not a text,"
            faults.append(
                Finding(
                    "error",
                    "missing-text" if missing else "not-text",
                    row.where,
                    f'{what} in "{column}".',
                    "Give it a text, or remove the row.",
                )
            )
    return texts, faults


def _find_missing_columns(rows: Sequence[Row], columns: Iterable[str]) -> list[Finding]:
    """A column that no row has is one fault, not one for each row."""
    present: dict[str, None] = {}
    for row in rows:
        present.update(dict.fromkeys(row.values))
    where = rows[0].where.rsplit(" ", 2)[0]
    return [
        Finding(
            "error",
            "no-column",
            where,
            f'has no column "{column}".',
            f"Its columns are {', '.join(present)}; name one of them in the study file. "
            f"{suggest(column, present)}".rstrip(),
        )
        for column in dict.fromkeys(columns)
        if column not in present
    ]


def _repeated_ids_note(rows: Sequence[Row], column: str) -> Finding:
    return Finding(
        "note",
        "repeated-id",
        rows[0].where,
        f'"{column}" repeats an earlier row\'s value ({len(rows)} such rows in all).',
        "Nothing to do: the row's position was added to its uid.",
    )


def _label_spelling_note(rows: Sequence[Row], recipe: ColumnMapping) -> Finding:
    written = cell_text(rows[0].values.get(recipe.label))
    return Finding(
        "note",
        "label-spelling",
        rows[0].where,
        f'label "{written}" was read as one of {", ".join(recipe.label_names or ())} '
        f"({len(rows)} such rows in all).",
        "Nothing to do if that is what it means.",
    )
