"""From rows to examples. What prevents building is collected, so that it is told all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from paretune.data import labels as spelling
from paretune.data import table
from paretune.data.example import Example, Segments
from paretune.data.finding import Finding
from paretune.data.read import Row
from paretune.study import Label

Texts = Mapping[str, str]
Resolve = Callable[[object, Texts], "Label | Fault"]


@dataclass(frozen=True)
class Fault:
    """Why a label has no index, and what to do."""

    code: str
    what: str
    remedy: str


@dataclass(frozen=True)
class Recipe:
    """How a row becomes an example.

    Attributes:
        columns: the columns whose text is used.
        template: from those texts to segments.
        label: the label's column.
        resolve: from the label's value (and the texts) to an index, or a :class:`Fault`.
        id: column of the identifier; rows are counted where None.
        group: from a row's values to the name of what must stay together, or None.
        question: the same for the question that a row is one answer to.
        extra: further columns that must be there (the group's).
        names: label names, where a spelling that differs from them shall be noted.
        features: columns of a table. Their values may be missing, and the template gets the texts
            of those that are there.
        target: of a translation, the column of the reference (one of ``columns``); then no text
            may be empty, and ``label`` and ``resolve`` are not looked at.
    """

    columns: Sequence[str]
    template: Callable[[Texts], Segments]
    label: str
    resolve: Resolve
    id: str | None = None
    group: Callable[[Mapping[str, object]], str | None] = lambda values: None
    question: Callable[[Mapping[str, object]], str | None] = lambda values: None
    extra: Sequence[str] = ()
    names: tuple[str, ...] | None = None
    features: Sequence[str] = ()
    target: str | None = None


@dataclass
class Built:
    """Examples of one part, what stands in the way (``faults``), what is said (``notes``)."""

    examples: list[Example] = field(default_factory=list)
    faults: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)


def build(rows: Sequence[Row], recipe: Recipe, part: str, *, labelled: bool = True) -> Built:
    """Examples of one part (``train``, ``test``, ``unlabelled``), in the order of the rows.

    Uids are ``part:id``, made unique by the row's position (``train:2#4``) where a file repeats
    an id. With ``labelled`` false, labels are not looked at.
    """
    built = Built()
    wanted = [*recipe.columns, *recipe.features, *recipe.extra]
    labelled = labelled and recipe.target is None
    wanted += [recipe.label] if labelled else []
    wanted += [recipe.id] if recipe.id else []
    if rows and (absent := _absent(rows, wanted)):
        built.faults += absent
        return built
    seen: set[str] = set()
    repeated: list[Row] = []
    respelt: list[Row] = []
    for position, row in enumerate(rows):
        texts, faults = _texts(row, recipe.columns, blank=recipe.target is None)
        features, unfit = table.features(row, recipe.features)
        faults += unfit
        label: Label | None = None
        if labelled and not faults:
            found = _label(row.values.get(recipe.label), recipe, texts)
            if isinstance(found, Fault):
                faults.append(Finding("error", found.code, row.where, found.what, found.remedy))
            else:
                label = found
        if faults:
            built.faults += faults
            continue
        name = spelling.spell(row.values.get(recipe.id)) if recipe.id else str(position)
        uid = f"{part}:{position if name is None else name}"
        if uid in seen:
            repeated.append(row)
            uid = f"{uid}#{position}"
        seen.add(uid)
        if label is not None and recipe.names is not None:
            written = spelling.spell(row.values.get(recipe.label))
            respelt += [row] if written not in recipe.names else []
        group, question = recipe.group(row.values), recipe.question(row.values)
        told = recipe.template(texts | table.texts(row, recipe.features))
        target = texts[recipe.target] if recipe.target else None
        built.examples.append(
            Example(uid, told, label, row.where, group, features, question, target)
        )
    if repeated:
        built.notes.append(_repeated(repeated, recipe.id or ""))
    if respelt:
        built.notes.append(_respelt(respelt, recipe))
    return built


def one_of(names: Sequence[str], aliases: Mapping[str, str] | None = None) -> Resolve:
    """Resolve a label among names, with a fault that lists them."""

    def resolve(value: object, texts: Texts) -> int | Fault:
        if spelling.spell(value) is None:
            return missing_label()
        found = spelling.match(value, names, aliases)
        if found is not None:
            return found
        return Fault(
            "unknown-label",
            f'label "{spelling.spell(value)}" is not one of {", ".join(names)}.',
            "Fix the row, or add it to labels.",
        )

    return resolve


def a_number(value: object, texts: Texts) -> float | Fault:
    """Resolve the label of a regression: a finite number, as a number or as text."""
    written = spelling.spell(value)
    if written is None:
        return missing_label()
    number = table.number(value)
    if number is not None:
        return number
    return Fault(
        "not-a-number",
        f'"{written}" is not a finite number.',
        "Fix the row, or make the task a classification.",
    )


def missing_label() -> Fault:
    """The fault of a row whose label is empty."""
    return Fault("missing-label", "has no label.", "Give it one, or remove the row.")


def _label(value: object, recipe: Recipe, texts: Texts) -> Label | Fault:
    if isinstance(value, list | dict):
        what = f'holds a {type(value).__name__} in "{recipe.label}"; a row has one label.'
        return Fault("not-label", what, "Keep one label in each row.")
    return recipe.resolve(value, texts)


def _texts(
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


def _absent(rows: Sequence[Row], wanted: Iterable[str]) -> list[Finding]:
    """A column that no row has is one fault, not one for each row."""
    held: dict[str, None] = {}
    for row in rows:
        held.update(dict.fromkeys(row.values))
    where = rows[0].where.rsplit(" ", 2)[0]
    return [
        Finding(
            "error",
            "no-column",
            where,
            f'has no column "{column}".',
            f"Its columns are {', '.join(held)}; name one of them in the study file.",
        )
        for column in dict.fromkeys(wanted)
        if column not in held
    ]


def _repeated(rows: Sequence[Row], column: str) -> Finding:
    return Finding(
        "note",
        "repeated-id",
        rows[0].where,
        f'"{column}" repeats an earlier row\'s value ({len(rows)} such rows in all).',
        "Nothing to do: the row's position was added to its uid.",
    )


def _respelt(rows: Sequence[Row], recipe: Recipe) -> Finding:
    written = spelling.spell(rows[0].values.get(recipe.label))
    return Finding(
        "note",
        "label-spelling",
        rows[0].where,
        f'label "{written}" was read as one of {", ".join(recipe.names or ())} '
        f"({len(rows)} such rows in all).",
        "Nothing to do if that is what it means.",
    )
