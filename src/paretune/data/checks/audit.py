"""The audit of a dataset before training: leaks, duplicates, contradictions, empty texts ..."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from paretune.data.checks.audit_parallel import audit_parallel
from paretune.data.checks.audit_targets import audit_instructions
from paretune.data.checks.leaks import find_leaks, find_missing_choices, find_missing_classes
from paretune.data.example import (
    Dataset,
    Example,
    count_groups,
    describe_groups,
    normalise_text,
    text_key,
)
from paretune.data.finding import Finding, summarise
from paretune.data.outer_design import PUBLISHED_SPLIT, OuterDesign
from paretune.data.outer_folds import labelled_rows
from paretune.data.split import count_inseparable
from paretune.objectives.objective import TextLengths
from paretune.study import Checks

MIN_TRAIN_ROWS = 10
MIN_TEST_ROWS = 5
SMALL_TEST_ROWS = 100
OUTLIER_FACTOR = 10
"""A number this many times the width of the middle four fifths away from them is remarkable."""


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
    of_builder = dataset.findings
    if design.folds:  # every row is tested, so none was kept for the test
        of_builder = tuple(one for one in of_builder if one.code != "test-held-out")
    findings = [*of_builder, *_describe_design(dataset, design)]
    if design.folds:
        dataset = replace(dataset, train=tuple(labelled_rows(dataset)), test=())
        findings += [*_check_tested_rows(dataset, dataset.train), *_find_shared_between(dataset)]
    else:
        findings += _check_sizes(dataset)
    for name in dataset.objective.checks:
        findings += CHECKS[name](dataset, checks)
    findings += _find_constant(dataset)
    rank = {"error": 0, "warning": 1, "note": 2}
    return sorted(findings, key=lambda finding: rank[finding.severity])


def _audit_examples(dataset: Dataset, checks: Checks) -> list[Finding]:
    train, test = len(dataset.train), len(dataset.test)
    return [
        *summarise(_find_empty(dataset), f"of {train + test} rows"),
        *summarise(_find_duplicates(dataset.train, "train"), f"of {train} train rows"),
        *summarise(_find_duplicates(dataset.test, "test"), f"of {test} test rows"),
        *summarise(_find_contradictions(dataset), f"of {train + test} rows"),
        *find_leaks(dataset, text_key, checks),
        *_find_shared_first(dataset),
    ]


def audit_truncation(
    dataset: Dataset,
    tokenizer: Any,
    max_length: int,
    prefix: str = "",
    text_lengths: TextLengths | None = None,
) -> list[Finding]:
    """How many rows of each part are cut at ``max_length`` tokens, and the worst of them.

    Sources and references are looked at separately; ``prefix`` stands before texts or sources.
    ``text_lengths``: of the readout that is used; None: of the task's own objective.
    """
    findings = []
    for part, examples in (("train", dataset.train), ("test", dataset.test)):
        count = text_lengths or dataset.objective.text_lengths
        lengths = count(examples, tokenizer, prefix)
        for name, sizes in lengths.items():
            cut = [i for i, size in enumerate(sizes) if size > max_length]
            if not cut:
                continue
            worst = max(cut, key=lambda i: sizes[i])
            findings.append(
                Finding(
                    "warning" if len(cut) > len(examples) / 10 else "note",
                    "truncated",
                    examples[worst].where,
                    f"{len(cut)} of {len(examples)} {part} {name} are longer than {max_length} "
                    f"tokens "
                    f"and are cut; this one is the longest, with {sizes[worst]}.",
                    f"Raise training.max_length, up to {sizes[worst]} or what the model takes.",
                )
            )
    return findings


def _check_sizes(dataset: Dataset) -> list[Finding]:
    findings = []
    for name, examples, fewest in (
        ("train", dataset.train, MIN_TRAIN_ROWS),
        ("test", dataset.test, MIN_TEST_ROWS),
    ):
        if len(examples) < fewest:
            where = examples[-1].where if examples else dataset.task
            what = f"{name} has {len(examples)} rows, at least {fewest} are needed."
            findings.append(Finding("error", "too-few-rows", where, what, "Add rows."))
    return [*findings, *_check_tested_rows(dataset, dataset.test)]


def _describe_design(dataset: Dataset, design: OuterDesign) -> list[Finding]:
    """Which rows are the test where ``outer: auto`` has decided it, and why."""
    if not design.reason:
        return []
    what, remedy = f"its test part is the test: {design.reason}.", "outer: 5 tests on all rows."
    if design.folds:
        what = f"all rows are tested by {design.folds}-fold cross-validation: {design.reason}."
        remedy = "outer: split tests on its test part, as published scores do."
    return [Finding("note", "test-design", f"task {dataset.task}", what, remedy)]


def _check_tested_rows(dataset: Dataset, tested: Sequence[Example]) -> list[Finding]:
    """A note where so few rows are tested that only large differences can be found."""
    findings = []
    groups = describe_groups(dataset, tested)
    independent = count_groups(tested) if groups else len(tested)
    if len(tested) >= MIN_TEST_ROWS and independent < SMALL_TEST_ROWS:
        half = 0.98 / independent**0.5
        many = f"{groups}, within which they hang together" if groups else ""
        reach = (
            f"a 95% interval of accuracy reaches up to ±{half:.2f}."
            if dataset.objective.predicts_labels
            else "an interval on so few is wide."
        )
        findings.append(
            Finding(
                "note",
                "small-test",
                tested[-1].where,
                f"test has {len(tested)} rows{many}: {reach}",
                "Differences smaller than that show nothing; more test rows would.",
            )
        )
    return findings


def _check_classes(dataset: Dataset, checks: Checks) -> list[Finding]:
    missing, rare = _rare_labels(dataset)
    return [*find_missing_classes(dataset, missing, checks), *rare]


def _check_choices(dataset: Dataset, checks: Checks) -> list[Finding]:
    missing, rare = _rare_labels(dataset)
    return [*find_missing_choices(dataset, missing), *rare]


def _rare_labels(dataset: Dataset) -> tuple[list[int], list[Finding]]:
    """Labels without a row in train, and findings on those that have one."""
    counts = Counter(e.label for e in dataset.train)
    rare = [
        Finding(
            "warning",
            "rare-class",
            next(e.where for e in dataset.train if e.label == index),
            f'has the only row of label "{label}" in train.',
            "No model can learn it: add rows, merge it with another, or take it out of labels.",
        )
        for index, label in enumerate(dataset.labels)
        if counts[index] == 1
    ]
    missing = [i for i in range(len(dataset.labels)) if not counts[i]]
    return missing, summarise(rare, f"of {len(dataset.labels)} labels' rows")


def _check_numbers(dataset: Dataset, checks: Checks) -> list[Finding]:
    """A part whose numbers are all the same, and numbers far from all others."""
    constant, far = [], []
    for name, examples in (("train", dataset.train), ("test", dataset.test)):
        values = [e.label for e in examples if e.label is not None]
        if len(set(values)) == 1:
            what = f"every {name} row has the same number, {values[0]:g}."
            remedy = "There is nothing to find: name another column, or add rows."
            constant.append(Finding("error", "constant-number", examples[0].where, what, remedy))
    values = sorted(e.label for e in dataset.train if e.label is not None)
    if len(values) < MIN_TRAIN_ROWS:
        return constant
    low, high = values[len(values) // 10], values[-1 - len(values) // 10]
    for e in (*dataset.train, *dataset.test):
        if e.label is not None and not low - OUTLIER_FACTOR * (
            high - low
        ) <= e.label <= high + OUTLIER_FACTOR * (high - low):
            what = f"holds {e.label:g}, far from the middle four fifths ({low:g} to {high:g})."
            remedy = "Fix it if it is an error: such rows dominate the loss."
            far.append(Finding("warning", "far-number", e.where, what, remedy))
    return [*constant, *summarise(far, f"of {len(dataset.train) + len(dataset.test)} rows")]


def _find_empty(dataset: Dataset) -> list[Finding]:
    return [
        Finding(
            "warning",
            "empty-text",
            e.where,
            "a text is empty.",
            "Give it a text, or remove the row.",
        )
        for e in (*dataset.train, *dataset.test)
        if not all(text.strip() for text in _texts(e))
    ]


def _find_duplicates(examples: Sequence[Example], name: str) -> list[Finding]:
    first: dict[tuple[str, ...], Example] = {}
    findings = []
    for e in examples:
        other = first.setdefault(text_key(e), e)
        if other is not e and other.label == e.label:
            what = f"repeats {other.where} (text and label, in {name})."
            findings.append(Finding("warning", "duplicate", e.where, what, "Remove one of them."))
    return findings


def _find_contradictions(dataset: Dataset) -> list[Finding]:
    first: dict[tuple[str, ...], Example] = {}
    findings = []
    for e in (*dataset.train, *dataset.test):
        other = first.setdefault(text_key(e), e)
        if other.label != e.label:
            what = (
                f'has label "{_label_name(dataset, e)}", but {other.where} has the same text '
                f'with label "{_label_name(dataset, other)}".'
            )
            remedy = "Decide which is right, and fix or remove the other."
            findings.append(Finding("warning", "contradiction", e.where, what, remedy))
    return findings


def _find_shared_first(dataset: Dataset) -> list[Finding]:
    """Test rows whose first text (premise, passage) train knows with another second text."""
    if not any(pair is not None for e in dataset.train[:1] for _, pair in e.segments):
        return []
    whole = {text_key(e) for e in dataset.train}
    firsts = {normalise_text(e.segments[0][0]): e for e in reversed(dataset.train)}
    shared = [
        (e, firsts[key])
        for e in dataset.test
        if (key := normalise_text(e.segments[0][0])) in firsts and text_key(e) not in whole
    ]
    if not shared:
        return []
    e, other = shared[0]
    return [
        Finding(
            "note",
            "shared-first-text",
            e.where,
            f"{len(shared)} of {len(dataset.test)} test rows share their first text with a train "
            f"row (this one with {other.where}).",
            "Nothing to do if the second text decides; otherwise split by that text.",
        )
    ]


def _find_shared_between(dataset: Dataset) -> list[Finding]:
    """Rows whose first text (premise, passage) is that of rows which may lie in other folds."""
    rows = [e for e in dataset.train if any(pair is not None for _, pair in e.segments)]
    together: dict[str, list[Example]] = defaultdict(list)
    for e in rows:
        together[normalise_text(e.segments[0][0])].append(e)
    shared = [e for alike in together.values() if count_inseparable(alike) > 1 for e in alike]
    if not shared:
        return []
    e, other = shared[0], shared[1]
    return [
        Finding(
            "note",
            "shared-first-text",
            e.where,
            f"{len(shared)} of {len(dataset.train)} rows share their first text with a row that "
            f"may lie in another fold (this one with {other.where}).",
            "Nothing to do if the second text decides; otherwise name its column as group.",
        )
    ]


def _find_constant(dataset: Dataset) -> list[Finding]:
    columns: dict[tuple[int, int], set[str]] = defaultdict(set)
    for e in dataset.train:
        for c, pair in enumerate(e.segments):
            for place, text in enumerate(pair):
                if text is not None:
                    columns[c, place].add(text)
    if len(dataset.train) < 2:
        return []
    return [
        Finding(
            "warning",
            "constant-text",
            dataset.train[0].where,
            f'text {place + 1} is the same in every train row ("{next(iter(texts))[:40]}").',
            "It tells the model nothing: name another column.",
        )
        for (_, place), texts in columns.items()
        if len(texts) == 1
    ]


def _texts(example: Example) -> list[str]:
    return [text for pair in example.segments for text in pair if text is not None]


def _label_name(dataset: Dataset, example: Example) -> str:
    if example.label is None:
        return ""
    if isinstance(example.label, float):
        return f"{example.label:g}"
    return dataset.labels[int(example.label)]


CHECKS: dict[str, Callable[[Dataset, Checks], list[Finding]]] = {
    "labels": _check_classes,
    "choices": _check_choices,
    "numbers": _check_numbers,
    "texts": _audit_examples,
    "parallel": audit_parallel,
    "instructions": audit_instructions,
}
"""Checks by name; which of them a dataset needs is a fact of its objective."""
