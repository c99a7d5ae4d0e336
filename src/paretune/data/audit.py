"""The audit of a dataset before training: leaks, duplicates, contradictions, empty texts ..."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from math import log
from statistics import median
from typing import Any

from paretune.data.example import (
    Dataset,
    Example,
    count_groups,
    describe_groups,
    normalise_text,
    text_key,
)
from paretune.data.finding import MAX_EXAMPLES, Finding, Severity, summarise
from paretune.data.language import CHARACTERISTIC_LETTERS, language_code, letter_share
from paretune.data.split import PUBLISHED_SPLIT, OuterDesign, labelled_rows
from paretune.objectives.objective import TextLengths
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
LANGUAGES_WITHOUT_CARONS = ("da", "de", "en", "es", "fi", "fr", "hu", "it", "nl", "pt", "sv")
"""Languages without the characteristic letters of others (`language.CHARACTERISTIC_LETTERS`)."""


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
        findings += _find_small_parts(dataset)
    if design.reason:  # ``outer: auto`` has decided
        what, remedy = f"its test part is the test: {design.reason}.", "outer: 5 tests on all rows."
        if design.folds:
            what = f"all rows are tested by {design.folds}-fold cross-validation: {design.reason}."
            remedy = "outer: split tests on its test part, as published scores do."
        findings.append(Finding("note", "test-design", f"task {dataset.task}", what, remedy))
    findings += _note_small_test(dataset, dataset.train if design.folds else dataset.test)
    for name in dataset.objective.checks:
        findings += CHECKS[name](dataset, checks)
    findings += _find_constant_texts(dataset)
    rank = {"error": 0, "warning": 1, "note": 2}
    return sorted(findings, key=lambda finding: rank[finding.severity])


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
    count_tokens = text_lengths or dataset.objective.text_lengths
    for part, examples in (("train", dataset.train), ("test", dataset.test)):
        for name, sizes in count_tokens(examples, tokenizer, prefix).items():
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
                    f"tokens and are cut; this one is the longest, with {sizes[worst]}.",
                    f"Raise training.max_length, up to {sizes[worst]} or what the model takes.",
                )
            )
    return findings


def _find_small_parts(dataset: Dataset) -> Iterator[Finding]:
    for name, examples, fewest in (
        ("train", dataset.train, MIN_TRAIN_ROWS),
        ("test", dataset.test, MIN_TEST_ROWS),
    ):
        if len(examples) < fewest:
            where = examples[-1].where if examples else dataset.task
            what = f"{name} has {len(examples)} rows, at least {fewest} are needed."
            yield Finding("error", "too-few-rows", where, what, "Add rows.")


def _note_small_test(dataset: Dataset, tested: Sequence[Example]) -> Iterator[Finding]:
    """A note where so few rows are tested that only large differences can be found."""
    groups = describe_groups(dataset, tested)
    independent = count_groups(tested) if groups else len(tested)
    if len(tested) < MIN_TEST_ROWS or independent >= SMALL_TEST_ROWS:
        return
    reach = "an interval on so few is wide."
    if dataset.objective.predicts_labels:
        reach = f"a 95% interval of accuracy reaches up to ±{0.98 / independent**0.5:.2f}."
    many = f"{groups}, within which they hang together" if groups else ""
    yield Finding(
        "note",
        "small-test",
        tested[-1].where,
        f"test has {len(tested)} rows{many}: {reach}",
        "Differences smaller than that show nothing; more test rows would.",
    )


def _find_constant_texts(dataset: Dataset) -> Iterator[Finding]:
    columns: dict[tuple[int, int], set[str]] = defaultdict(set)
    for e in dataset.train if len(dataset.train) > 1 else ():
        for choice, pair in enumerate(e.segments):
            for place, text in enumerate(pair):
                if text is not None:
                    columns[choice, place].add(text)
    for (_, place), texts in columns.items():
        if len(texts) == 1:
            text = next(iter(texts))[:40]
            what = f'text {place + 1} is the same in every train row ("{text}").'
            remedy = "It tells the model nothing: name another column."
            yield Finding("warning", "constant-text", dataset.train[0].where, what, remedy)


def _check_classes(dataset: Dataset, checks: Checks) -> list[Finding]:
    """Labels that a classifier never predicts, since no train row has them, or that are rare."""
    counts = Counter(e.label for e in dataset.train)
    missing = [i for i in range(len(dataset.labels)) if not counts[i]]
    lost = [e for e in dataset.test if e.label in missing]
    in_test = sorted({int(e.label) for e in lost if e.label is not None})
    absent = [i for i in missing if i not in in_test]
    findings = []
    remedy = "Add rows, merge it with another label, or take it out of labels."
    if lost:
        total = len(dataset.test)
        severity, limit = _judge(len(lost), total, "max_unlearnable", checks.max_unlearnable)
        what = (
            f"{_name_labels(dataset, in_test)} no row in train and {len(lost)} of {total} in test, "
            "which no model can answer correctly: accuracy is at most "
            f"{1 - len(lost) / total:.2f}."
        )
        places = tuple(e.where for e in lost)
        findings.append(Finding(severity, "missing-class", places[0], what, remedy + limit, places))
    if absent:
        what = f"{_name_labels(dataset, absent)} no row in train."
        findings.append(Finding("warning", "missing-class", _place_of_train(dataset), what, remedy))
    return [*findings, *_find_rare_labels(dataset, counts)]


def _check_choices(dataset: Dataset, checks: Checks) -> list[Finding]:
    """Places at which the right choice never stands in train; they can be learnt all the same."""
    counts = Counter(e.label for e in dataset.train)
    missing = [i for i in range(len(dataset.labels)) if not counts[i]]
    findings = _find_rare_labels(dataset, counts)
    if missing:
        what = f"{_name_labels(dataset, missing, 'choice')} never the right one in train."
        remedy = "Shuffle the choices of each row, unless that is meant."
        findings.append(Finding("warning", "missing-class", _place_of_train(dataset), what, remedy))
    return findings


def _find_rare_labels(dataset: Dataset, counts: Counter[int | float | None]) -> list[Finding]:
    remedy = "No model can learn it: add rows, merge it with another, or take it out of labels."
    rare = [
        Finding(
            "warning",
            "rare-class",
            next(e.where for e in dataset.train if e.label == index),
            f'has the only row of label "{label}" in train.',
            remedy,
        )
        for index, label in enumerate(dataset.labels)
        if counts[index] == 1
    ]
    return summarise(rare, f"of {len(dataset.labels)} labels' rows")


def _check_numbers(dataset: Dataset, checks: Checks) -> list[Finding]:
    """A part whose numbers are all the same, and numbers far from all others."""
    constant, far = [], []
    for name, examples in (("train", dataset.train), ("test", dataset.test)):
        numbers = {e.label for e in examples if e.label is not None}
        if len(numbers) == 1:
            what = f"every {name} row has the same number, {numbers.pop():g}."
            remedy = "There is nothing to find: name another column, or add rows."
            constant.append(Finding("error", "constant-number", examples[0].where, what, remedy))
    values = sorted(e.label for e in dataset.train if e.label is not None)
    if len(values) < MIN_TRAIN_ROWS:
        return constant
    low, high = values[len(values) // 10], values[-1 - len(values) // 10]
    margin = OUTLIER_FACTOR * (high - low)
    rows = (*dataset.train, *dataset.test)
    for e in rows:
        if e.label is not None and not low - margin <= e.label <= high + margin:
            what = f"holds {e.label:g}, far from the middle four fifths ({low:g} to {high:g})."
            remedy = "Fix it if it is an error: such rows dominate the loss."
            far.append(Finding("warning", "far-number", e.where, what, remedy))
    return [*constant, *summarise(far, f"of {len(rows)} rows")]


def _check_texts(dataset: Dataset, checks: Checks) -> list[Finding]:
    """Empty texts, duplicates, leaks, and equal texts with different labels."""
    rows = (*dataset.train, *dataset.test)
    of = f"of {len(rows)} rows"
    remedy = "Give it a text, or remove the row."
    empty = [
        Finding("warning", "empty-text", e.where, "a text is empty.", remedy)
        for e in rows
        if not all(text is None or text.strip() for pair in e.segments for text in pair)
    ]
    first: dict[object, Example] = {}
    contradictions = []
    for e in rows:
        earlier = first.setdefault(text_key(e), e)
        if earlier.label != e.label:
            labels = [_label_name(dataset, row) for row in (e, earlier)]
            what = (
                f'has label "{labels[0]}", but {earlier.where} has the same text with label '
                f'"{labels[1]}".'
            )
            remedy = "Decide which is right, and fix or remove the other."
            contradictions.append(Finding("warning", "contradiction", e.where, what, remedy))
    return [
        *summarise(empty, of),
        *_find_duplicates(dataset, "rows", "text and label"),
        *summarise(contradictions, of),
        *_find_leaks(dataset, text_key, checks),
        *_note_shared_first_texts(dataset),
    ]


def _check_pairs(dataset: Dataset, checks: Checks) -> list[Finding]:
    """The texts of a translation. Empty sides are refused when the examples are built."""
    rows = (*dataset.train, *dataset.test)
    of = f"of {len(rows)} pairs"
    return [
        *_find_swapped_languages(dataset, "train", dataset.train),
        *_find_swapped_languages(dataset, "test", dataset.test),
        *summarise(_find_unusual_lengths(rows), of),
        *summarise(_find_copies(rows, "untranslated", "source and target are the same"), of),
        *_find_duplicates(dataset, "pairs", "source and target"),
        *_find_leaks(dataset, lambda e: (text_key(e), _answer(e)), checks),
        *_find_leaked_sources(dataset, "source", "reference"),
    ]


def _check_instructions(dataset: Dataset, checks: Checks) -> list[Finding]:
    """Prompts and completions. Empty ones are refused when the examples are built."""
    rows = (*dataset.train, *dataset.test)
    copies = _find_copies(rows, "repeated-prompt", "the completion repeats the prompt", words=1)
    return [
        *summarise(copies, f"of {len(rows)} rows"),
        *_find_duplicates(dataset, "rows", "prompt and completion"),
        *_find_leaks(dataset, lambda e: (text_key(e), _answer(e)), checks),
        *_find_leaked_sources(dataset, "prompt", "completion"),
    ]


def _find_duplicates(dataset: Dataset, noun: str, equal: str) -> Iterator[Finding]:
    for part, examples in (("train", dataset.train), ("test", dataset.test)):
        first: dict[object, Example] = {}
        duplicates = []
        for e in examples:
            earlier = first.setdefault((text_key(e), _answer(e)), e)
            if earlier is not e:
                what = f"repeats {earlier.where} ({equal}, in {part})."
                remedy = "Remove one of them."
                duplicates.append(Finding("warning", "duplicate", e.where, what, remedy))
        yield from summarise(duplicates, f"of {len(examples)} {part} {noun}")


def _find_leaks(
    dataset: Dataset, key: Callable[[Example], object], checks: Checks
) -> Iterator[Finding]:
    """Test rows that are in train by ``key``, as one finding for each test part.

    Up to the share ``checks.max_leaked`` it is a warning, above an error.
    """
    train = {key(e): e for e in reversed(dataset.train)}
    for part, examples in (("test", dataset.test), ("test_shifted", dataset.shifted)):
        pairs = [(e, train[k]) for e in examples if (k := key(e)) in train]
        if not pairs:
            continue
        severity, limit = _judge(len(pairs), len(examples), "max_leaked", checks.max_leaked)
        places = [f"{e.where} ({twin.where})" for e, twin in pairs[:MAX_EXAMPLES]]
        ellipsis = ", ..." if len(pairs) > MAX_EXAMPLES else "."
        yield Finding(
            severity,
            "leak",
            pairs[0][0].where,
            f"{len(pairs)} of {len(examples)} {part} rows {'are' if len(pairs) > 1 else 'is'} in "
            f"train: {', '.join(places)}{ellipsis}",
            f"Remove them from train or from {part}, or the score is too high.{limit}",
            tuple(e.where for e, _ in pairs),
        )


def _find_leaked_sources(dataset: Dataset, source: str, target: str) -> Iterator[Finding]:
    """Test rows whose source is in train with another target."""
    pairs = {(text_key(e), _answer(e)) for e in dataset.train}
    sources = {text_key(e): e for e in reversed(dataset.train)}
    shared = [
        (e, sources[key])
        for e in dataset.test
        if (key := text_key(e)) in sources and (key, _answer(e)) not in pairs
    ]
    if shared:
        e, twin = shared[0]
        yield Finding(
            "warning",
            "leaked-source",
            e.where,
            f"{len(shared)} of {len(dataset.test)} test {source}s are in train too, with "
            f"another {target} (this one at {twin.where}).",
            "Remove them from train, or the score is too high.",
        )


def _note_shared_first_texts(dataset: Dataset) -> Iterator[Finding]:
    """Rows whose first text (premise, passage) another fold, or train, has with another second."""
    first: dict[str, Example] = {}
    for e in dataset.train:
        if e.segments[0][1] is not None:
            first.setdefault(normalise_text(e.segments[0][0]), e)
    tested = dataset.test or dataset.train
    shared = [
        (e, twin)
        for e in (tested if first else ())
        if (twin := first.get(normalise_text(e.segments[0][0]))) is not None
        and (e.group is None or e.group != twin.group)
        and text_key(e) != text_key(twin)
    ]
    if shared:
        e, twin = shared[0]
        yield Finding(
            "note",
            "shared-first-text",
            e.where,
            f"{len(shared)} of {len(tested)} tested rows share their first text with a row that "
            f"may be trained on (this one with {twin.where}).",
            "Nothing to do if the second text decides; otherwise name its column as group.",
        )


def _find_copies(
    examples: Iterable[Example], code: str, what: str, words: int = MIN_WORDS
) -> list[Finding]:
    """Texts of so many words whose target is the text itself."""
    remedy = "Write a target or remove the row: the model learns to copy."
    return [
        Finding("warning", code, e.where, f'{what} ("{e.segments[0][0][:40]}").', remedy)
        for e in examples
        if (text := normalise_text(e.segments[0][0])) == _answer(e)
        and len(text.split()) >= words
        and any(map(str.isalpha, text))
    ]


def _find_unusual_lengths(examples: Sequence[Example]) -> list[Finding]:
    """Pairs one side of which is far too long: often aligned wrongly."""
    pairs = [(e, len(e.segments[0][0]), len(e.target)) for e in examples if e.target]
    ratio = median(target / source for _, source, target in pairs) if pairs else 1.0
    findings = []
    for e, source, target in pairs:
        expected = ratio * source
        if (
            abs(log(target / expected)) > log(MAX_LENGTH_RATIO)
            and abs(target - expected) > MIN_LENGTH_DIFFERENCE
        ):
            what = (
                f"{source} characters are translated by {target}; about {expected:.0f} would be "
                "usual here."
            )
            remedy = "Check whether the two belong together; fix or remove the row."
            findings.append(Finding("warning", "far-length", e.where, what, remedy))
    return findings


def _find_swapped_languages(
    dataset: Dataset, part: str, examples: Sequence[Example]
) -> list[Finding]:
    """The texts of one language have the characteristic letters of the other."""
    source, target = dataset.languages
    texts = {
        source: [e.segments[0][0] for e in examples],
        target: [e.target or "" for e in examples],
    }
    for marked, plain in ((source, target), (target, source)):
        letters = CHARACTERISTIC_LETTERS.get(language_code(marked), "")
        shares = [letter_share(texts[language], letters) for language in (plain, marked)]
        if (
            language_code(plain) in LANGUAGES_WITHOUT_CARONS
            and shares[0] > 2 * shares[1]
            and shares[0] > 0.01
        ):
            what = (
                f"the {plain} texts of {part} look like {marked}, and the {marked} texts do not "
                f"({shares[0]:.1%} and {shares[1]:.1%} of their letters are its own)."
            )
            remedy = "Exchange the two columns or files, or source_lang and target_lang."
            return [Finding("warning", "swapped", examples[0].where, what, remedy)]
    return []


def _answer(example: Example) -> object:
    """The label, or the normalised target."""
    return example.label if example.target is None else normalise_text(example.target)


def _label_name(dataset: Dataset, example: Example) -> str:
    if example.label is None:
        return ""
    if isinstance(example.label, float):
        return f"{example.label:g}"
    return dataset.labels[int(example.label)]


def _name_labels(dataset: Dataset, labels: Sequence[int], noun: str = "label") -> str:
    """``label "maybe" has``, ``labels "a", "b", "c" and 4 more have``; of choices is and are."""
    names = ", ".join(f'"{dataset.labels[i]}"' for i in labels[:MAX_EXAMPLES])
    rest = f" and {len(labels) - MAX_EXAMPLES} more" if len(labels) > MAX_EXAMPLES else ""
    verbs = ("has", "have") if noun == "label" else ("is", "are")
    return f"{noun}{'s' * (len(labels) > 1)} {names}{rest} {verbs[len(labels) > 1]}"


def _place_of_train(dataset: Dataset) -> str:
    return dataset.train[0].where.rsplit(" ", 2)[0] if dataset.train else dataset.task


def _judge(count: int, total: int, key: str, max_share: float) -> tuple[Severity, str]:
    """An error where too many test rows are concerned, with the remedy that lets the study pass."""
    if count <= max_share * total:
        return "warning", ""
    share = min(1.0, -(-100 * count // total) / 100)
    return "error", (
        f" More than {max_share:.0%} of the test rows stop the study; `checks: {{{key}: "
        f"{share:g}}}` in the study file lets it run."
    )


CHECKS: dict[str, Callable[[Dataset, Checks], list[Finding]]] = {
    "labels": _check_classes,
    "choices": _check_choices,
    "numbers": _check_numbers,
    "texts": _check_texts,
    "parallel": _check_pairs,
    "instructions": _check_instructions,
}
"""Checks by name; which of them a dataset needs is a fact of its objective."""
