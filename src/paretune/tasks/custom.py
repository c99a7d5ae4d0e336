"""The user's own data: files or a hub dataset, with columns named in the study file.

Texts, or a table whose rows become sentences (:mod:`paretune.data.table`).

Not a task itself (it has no ``TASK``). Labels are those that the study lists, or those that the
file declares, or those that are found, sorted; which it was is noted. Without a test file a
stratified fifth of train, groups together, becomes the test part, and that is noted too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from paretune.data import hub
from paretune.data.build import Built, Recipe, Resolve, a_number, build, one_of
from paretune.data.choices import columns_of, resolver
from paretune.data.decimals import with_points
from paretune.data.example import Dataset, Example, Segments
from paretune.data.finding import Finding, refuse
from paretune.data.labels import spell
from paretune.data.read import Row, declared_labels, read_rows
from paretune.data.split import parts
from paretune.data.table import sentence
from paretune.data.vocabulary import listed_once, name_numbers, orders, settle
from paretune.errors import StudyError
from paretune.study import TaskSpec, derive
from paretune.tasks.copa import ASKED


@dataclass(frozen=True)
class _Read:
    """What was read: rows of both parts, labels that the files declare, notes, and from where."""

    train: list[Row]
    test: list[Row] | None
    declared: tuple[str, ...] | None
    notes: Sequence[Finding]
    source: str


def load(spec: TaskSpec) -> Dataset:
    """Read the user's data and build its examples.

    Raises:
        StudyError: the study asks for a template that own data cannot have.
        DataError: unreadable files, a hub dataset that was never fetched, missing columns, rows
            that cannot become examples; all such rows are named at once.
    """
    if spec.kind == "translation":
        from paretune.tasks import parallel

        return parallel.load(spec)
    if spec.template != "pair" and not spec.features:
        raise StudyError(
            f'task {spec.key} has no template "{spec.template}".',
            remedy="Texts of your own are encoded as they are: remove template.",
        )
    read = _from_hub(spec) if spec.dataset is not None else _from_files(spec)
    label = str(spec.label)
    notes: list[Finding] = [*read.notes]
    if spec.kind == "multiple_choice":
        read, options = _with_choices(read, spec.choices or ())
        labels = tuple(str(i) for i in range(len(options)))
        names = spec.labels or read.declared
        recipe = _recipe(spec, options, resolver(options, names))
    elif spec.kind == "regression":
        read, said = _with_points(read, [label, *(spec.features or ())])
        notes += said
        labels = (label,)
        recipe = _recipe(spec, (), a_number)
    else:
        read, said = _with_points(read, spec.features or ())
        notes += said
        labels, said = settle(read.train, read.test or [], label, spec.labels, read.declared)
        notes += said
        recipe = replace(_recipe(spec, (), one_of(labels)), names=labels)
    train = build(read.train, recipe, "train")
    test = Built() if read.test is None else build(read.test, recipe, "test")
    faults = listed_once(train.faults, read.train, label)
    refuse([*faults, *listed_once(test.faults, read.test or [], label)])
    notes += [*train.notes, *test.notes]
    train_examples, test_examples = train.examples, test.examples
    if read.test is None:
        train_examples, test_examples, said_split = _hold_out(train.examples)
        notes.append(said_split)
    limit = spec.limit or {}
    return Dataset(
        task=spec.key,
        kind=str(spec.kind),
        labels=labels,
        train=tuple(train_examples[: limit.get("train")]),
        test=tuple(test_examples[: limit.get("test")]),
        metric=spec.metric or ("r2" if spec.kind == "regression" else "accuracy"),
        features=spec.features or (),
        language=spec.language,
        licence=spec.licence or "not stated",
        source=read.source,
        findings=tuple(notes),
        clustered=spec.group is not None,
    )


def _from_files(spec: TaskSpec) -> _Read:
    label, train = str(spec.label), str(spec.train)
    declared = declared_labels(train, label)
    rows = name_numbers(read_rows(train), label, declared)
    source = train.rpartition("/")[2]
    if spec.test is None:
        return _Read(rows, None, declared, (), source)
    others = declared_labels(spec.test, label)
    test = name_numbers(read_rows(spec.test), label, others)
    notes = orders(declared, others, Path(spec.test).name, "the train file declares")
    return _Read(rows, test, declared, notes, f"{source}, {spec.test.rpartition('/')[2]}")


def _from_hub(spec: TaskSpec) -> _Read:
    loaded = hub.load(spec)
    label = str(spec.label)
    test = loaded.test
    return _Read(
        train=name_numbers(loaded.train, label, loaded.declared),
        test=None if test is None else name_numbers(test, label, loaded.declared),
        declared=loaded.declared,
        notes=loaded.findings,
        source=f"{spec.dataset} at commit {loaded.commit} (hub)",
    )


def _with_choices(read: _Read, choices: Sequence[str]) -> tuple[_Read, tuple[str, ...]]:
    rows, options = columns_of([*read.train, *(read.test or [])], choices)
    cut = len(read.train)
    test = None if read.test is None else rows[cut:]
    return replace(read, train=rows[:cut], test=test), options


def _with_points(read: _Read, columns: Sequence[str]) -> tuple[_Read, list[Finding]]:
    """Columns of numbers with decimal points, where they were written with commas."""
    (train, test), notes = with_points((read.train, read.test or []), columns)
    return replace(read, train=train, test=None if read.test is None else test), notes


def _asked(spec: TaskSpec, text: str) -> str:
    """A question as it is; COPA's two words as COPA asks them, in a language that it has."""
    return ASKED.get(spec.language or "", {}).get(text, text)


def _recipe(spec: TaskSpec, options: Sequence[str], resolve: Resolve) -> Recipe:
    text, second, group = str(spec.text), spec.text_pair, spec.group
    question = spec.question
    beside = [column for column in (second if not options else None, question) if column]
    told = (
        sentence(spec.features, None if spec.template == "pair" else spec.template)
        if (spec.features)
        else None
    )

    def template(texts: Mapping[str, str]) -> Segments:
        if told is not None:
            return told(texts)
        if options:
            first = texts[text]
            if question is not None:
                first = f"{first} {_asked(spec, texts[question])}"
            return tuple((first, texts[option]) for option in options)
        return ((texts[text], texts[second] if second else None),)

    return Recipe(
        columns=[] if told else [text, *beside, *options],
        features=spec.features or (),
        template=template,
        label=str(spec.label),
        resolve=resolve,
        id=spec.id,
        group=(lambda values: spell(values.get(group))) if group else (lambda values: None),
        extra=[group] if group else [],
    )


def _hold_out(examples: list[Example]) -> tuple[list[Example], list[Example], Finding]:
    """Train without part 0, and part 0: always the same fifth of the same rows."""
    placed = parts(examples, derive(0, "hold out"))
    train = [e for e, part in zip(examples, placed, strict=True) if part != 0]
    test = [e for e, part in zip(examples, placed, strict=True) if part == 0]
    said = Finding(
        "note",
        "test-held-out",
        test[0].where if test else examples[0].where,
        f"no test file was given: {len(test)} of {len(examples)} rows of train, stratified and "
        "with groups together, are kept for the test (this is the first of them).",
        "Give the task test: FILE to decide it yourself.",
    )
    return train, test, said
