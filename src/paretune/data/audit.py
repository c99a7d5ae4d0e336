"""The audit of a dataset before training: leaks, duplicates, contradictions, empty texts ..."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import log
from statistics import median
from textwrap import shorten
from typing import Any

from paretune.data.example import Dataset, count_groups, describe_groups, normalise_text, text_key
from paretune.data.finding import MAX_EXAMPLES, SEVERITIES, Finding, Severity, summarise
from paretune.data.labels import describe_imbalance
from paretune.data.near_duplicates import find_near_duplicates
from paretune.data.split import PUBLISHED_SPLIT, OuterDesign, labelled_rows
from paretune.objectives import Objective
from paretune.objectives.example import Example
from paretune.study import Checks

MIN_TRAIN_ROWS = 10
MIN_TEST_ROWS = 5
SMALL_TEST_ROWS = 100
OUTLIER_FACTOR = 10
"""A number this many times the width of the middle four fifths away from them is remarkable."""
MIN_WORDS = 4
"""A text of fewer words may well be the same in both languages: names, commands, numbers."""
MAX_LENGTH_RATIO = 2.0
"""How many times longer or shorter than usual for its source a translation must be. Of 11,857 pairs
of software help, news and general text, twice finds four, all aligned wrongly."""
MIN_LENGTH_DIFFERENCE = 40
"""Characters by which such a translation must differ too: short texts vary more."""
MAX_COMPARED = 10_000
"""Rows of a part that are compared with all others for near-duplicates; it takes some seconds."""


def audit(
    dataset: Dataset,
    checks: Checks = Checks(),  # noqa: B008 (frozen)
    design: OuterDesign = PUBLISHED_SPLIT,
) -> list[Finding]:
    """Everything found in a dataset, what its builder noted included; errors first.

    Args:
        checks: which shares of the test rows may leak, or be unlearnable.
        design: of the test. In cross-validation all rows are one part: equal texts stay in one
            fold, so none leaks.
    """
    findings = list(dataset.findings)
    if design.folds:  # every row is tested, so none was kept for the test
        findings = [finding for finding in findings if finding.code != "test-held-out"]
        dataset = replace(dataset, train=tuple(labelled_rows(dataset)), test=())
    else:
        for part, rows, fewest in (
            ("train", dataset.train, MIN_TRAIN_ROWS),
            ("test", dataset.test, MIN_TEST_ROWS),
        ):
            if len(rows) < fewest:
                where = rows[-1].where if rows else dataset.task
                what = f"{part} has {len(rows)} rows, at least {fewest} are needed."
                findings.append(Finding("error", "too-few-rows", where, what, "Add rows."))
    if design.reason:  # ``outer: auto`` has decided
        what, remedy = f"its test part is the test: {design.reason}.", "outer: 5 tests on all rows."
        if design.folds:
            what = f"all rows are tested by {design.folds}-fold cross-validation: {design.reason}."
            remedy = "outer: split tests on its test part, as published scores do."
        findings.append(Finding("note", "test-design", f"task {dataset.task}", what, remedy))
    # Where so few rows are tested, only large differences can be found.
    tested = dataset.train if design.folds else dataset.test
    groups = describe_groups(dataset, tested)
    independent = count_groups(tested) if groups else len(tested)
    if len(tested) >= MIN_TEST_ROWS and independent < SMALL_TEST_ROWS:
        many = f"{groups}, within which they hang together" if groups else ""
        reach = "an interval on so few is wide."
        if dataset.objective.predicts_labels:
            reach = f"a 95% interval of accuracy reaches up to ±{0.98 / independent**0.5:.2f}."
        what = f"test has {len(tested)} rows{many}: {reach}"
        remedy = "Differences smaller than that show nothing; more test rows would."
        findings.append(Finding("note", "small-test", tested[-1].where, what, remedy))
    for check in CHECKS[dataset.objective.reader]:
        findings += check(dataset, checks)
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def audit_truncation(
    dataset: Dataset,
    tokenizer: Any,
    max_length: int,
    prefix: str = "",
    objective: Objective | None = None,
) -> list[Finding]:
    """How many rows of each part are cut at ``max_length`` tokens, and the worst of them.

    Sources and references are looked at separately; ``prefix`` stands before texts or sources.
    ``objective``: by the readout that is used; None: the task's own.
    """
    findings = []
    objective = objective or dataset.objective
    for part, examples in (("train", dataset.train), ("test", dataset.test)):
        for name, sizes in objective.text_lengths(examples, tokenizer, prefix).items():
            cut = [i for i, size in enumerate(sizes) if size > max_length]
            if not cut:
                continue
            worst = max(cut, key=lambda i: sizes[i])
            happens = "are cut" if objective.cuts_texts else "are read in several windows"
            findings.append(
                Finding(
                    "warning" if objective.cuts_texts and len(cut) > len(examples) / 10 else "note",
                    "truncated",
                    examples[worst].where,
                    f"{len(cut)} of {len(examples)} {part} {name} are longer than {max_length} "
                    f"tokens and {happens}; this one is the longest, with {sizes[worst]}.",
                    f"Raise training.max_length, up to {sizes[worst]} or what the model takes.",
                )
            )
    return findings


def _check_classes(dataset: Dataset, checks: Checks) -> list[Finding]:
    """Labels that a classifier never predicts, since no train row has them, or that are rare."""
    labels_of = partial(_labels_of, dataset)
    counts = Counter(label for e in dataset.train for label in labels_of(e))
    missing = [i for i in range(len(dataset.labels)) if not counts[i]]
    lost = [e for e in dataset.test if not set(missing).isdisjoint(labels_of(e))]
    absent = [i for i in missing if all(i not in labels_of(e) for e in lost)]
    findings = []
    answers = {answer for e in dataset.train for answer in labels_of(e) or [-1]}
    if len(answers) == 1 or len({e.label for e in dataset.train} - {None}) == 1:
        name = ", ".join(dataset.labels[i] for i in labels_of(dataset.train[0])) or "none"
        what = f'every train row has the same label or labels: "{name}".'
        remedy = "There is nothing to learn: name another column, or add rows."
        where = dataset.train[0].where.rsplit(" ", 2)[0]
        return [Finding("error", "one-class", where, what, remedy)]
    remedy = "Add rows, merge it with another label, or take it out of labels."
    if lost:
        total, single = len(dataset.test), dataset.objective.predicts_labels
        severity, limit = _judge(len(lost), total, "max_unlearnable", checks.max_unlearnable)
        what = (
            f"{_name_labels(dataset, [i for i in missing if i not in absent])} no row in train and "
            f"{len(lost)} of {total} in test, which no model can answer correctly"
            f"{f': accuracy is at most {1 - len(lost) / total:.2f}' if single else ''}."
        )
        places = tuple(e.where for e in lost)
        findings.append(Finding(severity, "missing-class", places[0], what, remedy + limit, places))
    if absent:
        where = dataset.train[0].where.rsplit(" ", 2)[0] if dataset.train else dataset.task
        what = f"{_name_labels(dataset, absent)} no row in train."
        findings.append(Finding("warning", "missing-class", where, what, remedy))
    rows = (*dataset.train, *dataset.test)
    answered = Counter(dataset.labels[label] for e in rows for label in labels_of(e))
    if dataset.metric == "accuracy" and (what := describe_imbalance(answered)):
        advice = "Consider metric: macro_f1 in the task, and training: {class_weights: balanced}."
        where = dataset.train[0].where.rsplit(" ", 2)[0]
        findings.append(Finding("note", "imbalance", where, what, advice))
    rare = [
        (e, f'has the only row of label "{dataset.labels[label]}" in train.')
        for e in dataset.train
        for label in labels_of(e)
        if counts[label] == 1
    ]
    remedy = "No model can learn it: add rows, merge it with another, or take it out of labels."
    population = f"of {len(dataset.labels)} labels' rows"
    return [*findings, *_warn_of_rows("rare-class", rare, remedy, population)]


def _check_numbers(dataset: Dataset, checks: Checks) -> list[Finding]:
    """A part whose numbers are all the same, and numbers far from all others."""
    findings = []
    for name, examples in (("train", dataset.train), ("test", dataset.test)):
        numbers = {e.label for e in examples if e.label is not None}
        if len(numbers) == 1:
            what = f"every {name} row has the same number, {numbers.pop():g}."
            remedy = "There is nothing to find: name another column, or add rows."
            findings.append(Finding("error", "constant-number", examples[0].where, what, remedy))
    values = sorted(float(e.label) for e in dataset.train if e.label is not None)
    if len(values) < MIN_TRAIN_ROWS:
        return findings
    low, high = values[len(values) // 10], values[-1 - len(values) // 10]
    margin = OUTLIER_FACTOR * (high - low)
    rows = (*dataset.train, *dataset.test)
    far = [
        (e, f"holds {e.label:g}, far from the middle four fifths ({low:g} to {high:g}).")
        for e in rows
        if e.label is not None and not low - margin <= float(e.label) <= high + margin
    ]
    remedy = "Fix it if it is an error: such rows dominate the loss."
    return [*findings, *_warn_of_rows("far-number", far, remedy, f"of {len(rows)} rows")]


def _check_texts(dataset: Dataset, checks: Checks) -> list[Finding]:
    """Empty texts, duplicates, leaks, and equal texts with different labels."""
    rows = (*dataset.train, *dataset.test)
    population = f"of {len(rows)} rows"
    empty = [
        (e, "a text is empty.")
        for e in rows
        if not all(text is None or text.strip() for pair in e.segments for text in pair)
    ]
    contradictions = [
        (
            e,
            f'has label "{_label_name(dataset, e)}", but {twin.where} has the same text with label '
            f'"{_label_name(dataset, twin)}".',
        )
        for e, twin in _find_twins(rows, rows, text_key)
        if _answer(twin) != _answer(e)
    ]
    fix_text = "Give it a text, or remove the row."
    fix_label = "Decide which is right, and fix or remove the other."
    return [
        *_warn_of_rows("empty-text", empty, fix_text, population),
        *_find_duplicates(dataset, "text and label"),
        *_warn_of_rows("contradiction", contradictions, fix_label, population),
        *_find_leaks(dataset, text_key, checks),
        *_find_near_duplicates(dataset),
    ]


def _check_ids(dataset: Dataset, checks: Checks) -> list[Finding]:
    """Rows that are in train and in test."""
    return [*_find_leaks(dataset, text_key, checks)]


def _check_pairs(dataset: Dataset, checks: Checks) -> list[Finding]:
    """The texts of a translation. Empty sides are refused when the examples are built."""
    rows = [e for e in (*dataset.train, *dataset.test) if e.target]
    lengths = [(e, len(e.segments[0][0]), len(e.target or "")) for e in rows]
    ratio = median([target / source for _, source, target in lengths] or [1.0])
    far = [
        (
            e,
            f"{source} characters are translated by {target}; about {ratio * source:.0f} would be "
            "usual here.",
        )
        for e, source, target in lengths
        if abs(log(target / source / ratio)) > log(MAX_LENGTH_RATIO)
        and abs(target - ratio * source) > MIN_LENGTH_DIFFERENCE
    ]
    remedy = "Check whether the two belong together; fix or remove the row."
    return [
        *_warn_of_rows("far-length", far, remedy, f"of {len(rows)} pairs"),
        *_check_targets(dataset, checks, "source", "reference", MIN_WORDS),
    ]


def _check_targets(
    dataset: Dataset, checks: Checks, source: str, target: str, min_words: int
) -> list[Finding]:
    """Targets that copy a source of ``min_words`` or more, duplicates, and leaks."""
    rows = (*dataset.train, *dataset.test)
    copies = [
        (e, f'{source} and {target} are the same ("{e.segments[0][0][:40]}").')
        for e in rows
        if (text := normalise_text(e.segments[0][0])) == _answer(e)
        and len(text.split()) >= min_words
        and any(map(str.isalpha, text))
    ]
    remedy = "Write a target or remove the row: the model learns to copy."
    findings = [
        *_warn_of_rows("copied-text", copies, remedy, f"of {len(rows)} rows"),
        *_find_duplicates(dataset, f"{source} and {target}"),
        *_find_leaks(dataset, _whole_key, checks),
        *_find_near_duplicates(dataset),
    ]
    leaked = {e.uid for e, _ in _find_twins(dataset.test, dataset.train, _whole_key)}
    twins = _find_twins(dataset.test, dataset.train, text_key)
    if shared := [(e, twin) for e, twin in twins if e.uid not in leaked]:
        e, twin = shared[0]
        what = (
            f"{len(shared)} of {len(dataset.test)} test {source}s are in train too, with another "
            f"{target} (this one at {twin.where})."
        )
        remedy = "Remove them from train, or the score is too high."
        findings.append(Finding("warning", "leaked-source", e.where, what, remedy))
    return findings


def _find_duplicates(dataset: Dataset, equal: str) -> Iterator[Finding]:
    for part, examples in (("train", dataset.train), ("test", dataset.test)):
        twins = _find_twins(examples, examples, _whole_key)
        repeats = [
            (e, f"repeats {twin.where} ({equal}, in {part}).") for e, twin in twins if twin is not e
        ]
        population = f"of {len(examples)} {part} rows"
        yield from _warn_of_rows("duplicate", repeats, "Remove one of them.", population)


def _find_leaks(
    dataset: Dataset, key: Callable[[Example], object], checks: Checks
) -> Iterator[Finding]:
    """Test rows that are in train by ``key``, as one finding for each test part.

    Up to the share ``checks.max_leaked`` it is a warning, above an error.
    """
    for part, examples in (("test", dataset.test), ("test_shifted", dataset.shifted)):
        twins = _find_twins(examples, dataset.train, key)
        if not twins:
            continue
        severity, limit = _judge(len(twins), len(examples), "max_leaked", checks.max_leaked)
        yield Finding(
            severity,
            "leak",
            twins[0][0].where,
            f"{len(twins)} of {len(examples)} {part} rows {'are' if len(twins) > 1 else 'is'} in "
            f"train: {_list_places(twins)}",
            f"Remove them from train or from {part}, or the score is too high.{limit}",
            tuple(e.where for e, _ in twins),
        )


def _find_near_duplicates(dataset: Dataset) -> Iterator[Finding]:
    """Rows that differ little from one of train, or of their own part."""
    if dataset.features:  # the sentences of a table are of one template
        return
    parts = {"train": dataset.train, "test": dataset.test, "test_shifted": dataset.shifted}
    compared = [(e, name) for name, rows in parts.items() for e in rows[:MAX_COMPARED]]
    part_of = {e.uid: name for e, name in compared}
    twins = find_near_duplicates(tuple(e for e, _ in compared))
    by_parts: dict[tuple[str, str], list[tuple[Example, Example]]] = defaultdict(list)
    for e, twin in twins:
        by_parts[part_of[e.uid], part_of[twin.uid]].append((e, twin))
    for (part, twin_part), pairs in by_parts.items():
        if part == twin_part:
            code = "near-duplicate"
            remedy = "Remove copies, or name what they share as group: so no split parts them."
        elif twin_part == "train":
            code = "near-leak"
            remedy = f"Remove copies from train or from {part}, or the score is too high."
        else:
            continue
        yield Finding(
            "warning",
            code,
            pairs[0][0].where,
            f"{len(pairs)} of {len(parts[part])} {part} rows "
            f"{'differ' if len(pairs) > 1 else 'differs'} little from a row of {twin_part}: "
            f"{_list_places(pairs)}",
            remedy,
            tuple(e.where for e, _ in pairs),
        )
    for part, rows in parts.items():
        if len(rows) > MAX_COMPARED:
            what = (
                f"the first {MAX_COMPARED:,} of {len(rows):,} {part} rows were searched for edited "
                "copies."
            )
            remedy = "Nothing to do; in the rest only exact copies are found."
            where = rows[MAX_COMPARED].where
            yield Finding("note", "near-duplicate", where, what, remedy)


def _list_places(pairs: Sequence[tuple[Example, Example]]) -> str:
    """``test.csv line 2 (train.csv line 7), ...``: the first rows, each with its twin."""
    places = ", ".join(f"{e.where} ({twin.where})" for e, twin in pairs[:MAX_EXAMPLES])
    return f"{places}, ..." if len(pairs) > MAX_EXAMPLES else f"{places}."


def _find_twins(
    examples: Sequence[Example], candidates: Sequence[Example], key: Callable[[Example], object]
) -> list[tuple[Example, Example]]:
    """Examples, each with the first candidate of the same key."""
    first: dict[object, Example] = {}
    for candidate in candidates:
        first.setdefault(key(candidate), candidate)
    pairs = ((e, first.get(key(e))) for e in examples) if first else ()
    return [(e, twin) for e, twin in pairs if twin is not None]


def _warn_of_rows(
    code: str, faults: Sequence[tuple[Example, str]], remedy: str, population: str
) -> list[Finding]:
    """Warnings of one kind, from examples and what is wrong with each."""
    warnings = [Finding("warning", code, e.where, what, remedy) for e, what in faults]
    return summarise(warnings, population)


def _whole_key(example: Example) -> object:
    return text_key(example), _answer(example)


def _answer(example: Example) -> object:
    """The label, or the normalised target."""
    return example.label if example.target is None else normalise_text(example.target)


def _label_name(dataset: Dataset, example: Example) -> str:
    if isinstance(example.label, float):
        return f"{example.label:g}"
    if example.target is not None:
        return shorten(example.target, 80, placeholder=" ...")
    return ", ".join(dataset.labels[label] for label in _labels_of(dataset, example)) or "none"


def _labels_of(dataset: Dataset, example: Example) -> list[int]:
    """Its label, its several labels, or the tags of its words, each once."""
    if isinstance(example.label, str):
        return [place for place, has in enumerate(example.label) if has == "1"]
    if example.label is None:
        return sorted(dataset.labels.index(tag) for tag in {*(example.target or "").split()})
    return [int(example.label)]


def _name_labels(dataset: Dataset, labels: Sequence[int]) -> str:
    """``label "maybe" has``, or ``labels "a", "b", "c" and 4 more have``."""
    names = ", ".join(f'"{dataset.labels[i]}"' for i in labels[:MAX_EXAMPLES])
    rest = f" and {len(labels) - MAX_EXAMPLES} more" if len(labels) > MAX_EXAMPLES else ""
    return f"labels {names}{rest} have" if len(labels) > 1 else f"label {names} has"


def _judge(count: int, total: int, key: str, max_share: float) -> tuple[Severity, str]:
    """An error where too many test rows are concerned, with the remedy that lets the study pass."""
    if count <= max_share * total:
        return "warning", ""
    share = min(1.0, -(-100 * count // total) / 100)
    return "error", (
        f" More than {max_share:.0%} of the test rows stop the study; `checks: {{{key}: "
        f"{share:g}}}` in the study file lets it run."
    )


CHECKS: dict[str, tuple[Callable[[Dataset, Checks], list[Finding]], ...]] = {
    **dict.fromkeys(
        ("", "labels", "label_sets", "tags", "unpaired_preference"), (_check_classes, _check_texts)
    ),
    **dict.fromkeys(("choices", "preference"), (_check_texts,)),
    "numbers": (_check_numbers, _check_texts),
    "ids": (_check_classes, _check_ids),
    "numbered_ids": (_check_numbers, _check_ids),
    "parallel": (_check_pairs,),
    "instructions": (partial(_check_targets, source="prompt", target="completion", min_words=1),),
}
"""Checks of a data set, by the reader of its objective."""
