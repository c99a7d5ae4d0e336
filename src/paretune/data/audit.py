"""The audit of a dataset before training: leaks, duplicates, contradictions, empty texts ..."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
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
from paretune.data.language import (
    characteristic_letter_share,
    detect_foreign_script,
    language_code,
)
from paretune.data.split import PUBLISHED_SPLIT, OuterDesign, count_inseparable, labelled_rows
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


def find_leaks(
    dataset: Dataset, key: Callable[[Example], Hashable], checks: Checks
) -> list[Finding]:
    """Test rows that are in train by ``key``, as one finding for each test part.

    Up to the share ``checks.max_leaked`` it is a warning, above an error.
    """
    train = {key(e): e for e in reversed(dataset.train)}
    findings = []
    for part, examples in (("test", dataset.test), ("test_shifted", dataset.shifted)):
        pairs = [(e, train[k]) for e in examples if (k := key(e)) in train]
        findings += _find_leaked(pairs, len(examples), part, checks)
    return findings


def _find_leaked(
    pairs: Sequence[tuple[Example, Example]], total: int, part: str, checks: Checks
) -> list[Finding]:
    if not pairs:
        return []
    examples = [f"{e.where} ({other.where})" for e, other in pairs[:MAX_EXAMPLES]]
    more = ", ..." if len(pairs) > MAX_EXAMPLES else "."
    are = "are" if len(pairs) > 1 else "is"
    return [
        Finding(
            _severity(len(pairs), total, checks.max_leaked),
            "leak",
            pairs[0][0].where,
            f"{len(pairs)} of {total} {part} rows {are} in train: {', '.join(examples)}{more}",
            f"Remove them from train or from {part}, or the score is too high."
            + _limit_remedy(len(pairs), total, "max_leaked", checks.max_leaked),
            tuple(e.where for e, _ in pairs),
        )
    ]


def find_missing_choices(dataset: Dataset, missing: Sequence[int]) -> list[Finding]:
    """Places at which the right choice never stands in train; they can be learnt all the same."""
    if not missing:
        return []
    what = f"{_name_labels(dataset, missing, 'choice')} never the right one in train."
    remedy = "Shuffle the choices of each row, unless that is meant."
    return [Finding("warning", "missing-class", _place_of_train(dataset), what, remedy)]


def find_missing_classes(dataset: Dataset, missing: Sequence[int], checks: Checks) -> list[Finding]:
    """Labels that no train row has: a classifier never predicts them.

    Up to the share ``checks.max_unlearnable`` of test rows it is a warning, above an error.
    """
    total = len(dataset.test)
    unlearnable = [e for e in dataset.test if e.label in missing]
    in_test = [i for i in missing if any(e.label == i for e in unlearnable)]
    absent = [i for i in missing if i not in in_test]
    findings = []
    remedy = "Add rows, merge it with another label, or take it out of labels."
    if in_test:
        what = (
            f"{_name_labels(dataset, in_test)} no row in train and {len(unlearnable)} of "
            f"{total} in test, "
            f"which no model can answer correctly: accuracy is at most "
            f"{1 - len(unlearnable) / total:.2f}."
        )
        severity = _severity(len(unlearnable), total, checks.max_unlearnable)
        limit = _limit_remedy(len(unlearnable), total, "max_unlearnable", checks.max_unlearnable)
        places = tuple(e.where for e in unlearnable)
        findings.append(Finding(severity, "missing-class", places[0], what, remedy + limit, places))
    if absent:
        what = f"{_name_labels(dataset, absent)} no row in train."
        findings.append(Finding("warning", "missing-class", _place_of_train(dataset), what, remedy))
    return findings


def _place_of_train(dataset: Dataset) -> str:
    return dataset.train[0].where.rsplit(" ", 2)[0] if dataset.train else dataset.task


def _name_labels(dataset: Dataset, labels: Sequence[int], noun: str = "label") -> str:
    """``label "maybe" has``, ``labels "a", "b", "c" and 4 more have``; of choices is and are."""
    names = ", ".join(f'"{dataset.labels[i]}"' for i in labels[:MAX_EXAMPLES])
    more = f" and {len(labels) - MAX_EXAMPLES} more" if len(labels) > MAX_EXAMPLES else ""
    verbs = ("has", "have") if noun == "label" else ("is", "are")
    return f"{noun}{'s' * (len(labels) > 1)} {names}{more} {verbs[len(labels) > 1]}"


def _severity(count: int, total: int, most: float) -> Severity:
    return "error" if count > most * total else "warning"


def _limit_remedy(count: int, total: int, key: str, most: float) -> str:
    """How to let the study pass, if it does not; otherwise empty."""
    if count <= most * total:
        return ""
    return (
        f" More than {most:.0%} of the test rows stop the study; `checks: {{{key}: "
        f"{min(1.0, -(-100 * count // total) / 100):g}}}` in the study file lets it run."
    )


Key = tuple[str, str]
"""Source and target, normalised."""


@dataclass(frozen=True)
class Wording:
    """How findings call the rows, their two texts, and several targets of one source."""

    rows: str
    source: str
    target: str
    both: str
    several: str


TRANSLATION = Wording(
    "pairs", "source", "reference", "source and target", "translated in more than one way"
)
INSTRUCTION = Wording(
    "rows", "prompt", "completion", "prompt and completion", "answered in more than one way"
)


def audit_instructions(dataset: Dataset, checks: Checks) -> list[Finding]:
    """All findings about prompts and completions."""
    keys = target_keys(dataset)
    return [
        *summarise(_find_repeated_prompts(dataset, keys), f"of {len(keys)} rows"),
        *audit_targets(dataset, keys, checks, INSTRUCTION),
    ]


def audit_targets(
    dataset: Dataset, keys: dict[Example, Key], checks: Checks, words: Wording
) -> list[Finding]:
    """Duplicates, several targets of one source, and test rows or sources that train knows."""
    return [
        *(
            finding
            for name, examples in (("train", dataset.train), ("test", dataset.test))
            for finding in summarise(
                _find_duplicate_targets(examples, name, keys, words),
                f"of {len(examples)} {name} {words.rows}",
            )
        ),
        *_find_several_references(dataset, keys, words),
        *find_leaks(dataset, lambda e: keys[e], checks),
        *_find_shared_sources(dataset, keys, words),
    ]


def target_keys(dataset: Dataset) -> dict[Example, Key]:
    """Source and target of every example, normalised."""
    return {e: _key(e) for e in (*dataset.train, *dataset.test, *dataset.shifted)}


def _find_repeated_prompts(dataset: Dataset, keys: dict[Example, Key]) -> list[Finding]:
    """Completions that are the prompt once more."""
    return [
        Finding(
            "warning",
            "repeated-prompt",
            e.where,
            f'the completion repeats the prompt ("{e.segments[0][0][:40]}").',
            "Answer or remove it: the model learns to copy.",
        )
        for e, (prompt, completion) in keys.items()
        if prompt == completion
    ]


def _find_duplicate_targets(
    examples: Sequence[Example], name: str, keys: dict[Example, Key], words: Wording
) -> list[Finding]:
    first: dict[Key, Example] = {}
    findings = []
    for e in examples:
        other = first.setdefault(keys[e], e)
        if other is not e:
            what = f"repeats {other.where} ({words.both}, in {name})."
            findings.append(Finding("warning", "duplicate", e.where, what, "Remove one of them."))
    return findings


def _find_several_references(
    dataset: Dataset, keys: dict[Example, Key], words: Wording
) -> list[Finding]:
    """Sources with several references: common in such data, so one note."""
    references: dict[str, dict[str, Example]] = defaultdict(dict)
    for e in (*dataset.train, *dataset.test):
        source, target = keys[e]
        references[source].setdefault(target, e)
    several = [targets for targets in references.values() if len(targets) > 1]
    if not several:
        return []
    first, second, *_ = several[0].values()
    return [
        Finding(
            "note",
            "several-references",
            second.where,
            f"{len(several)} {words.source}s are {words.several} (this one also at {first.where}).",
            "Nothing to do if both are right; a score against one reference is lower for it.",
        )
    ]


def _find_shared_sources(
    dataset: Dataset, keys: dict[Example, Key], words: Wording
) -> list[Finding]:
    """Test rows whose source is in train with another reference."""
    whole = {keys[e] for e in dataset.train}
    sources = {keys[e][0]: e for e in reversed(dataset.train)}
    shared = [
        (e, sources[keys[e][0]])
        for e in dataset.test
        if keys[e][0] in sources and keys[e] not in whole
    ]
    if not shared:
        return []
    e, other = shared[0]
    return [
        Finding(
            "warning",
            "leaked-source",
            e.where,
            f"{len(shared)} of {len(dataset.test)} test {words.source}s are in train too, with "
            f"another {words.target} (this one at {other.where}).",
            "Remove them from train, or the score is too high.",
        )
    ]


def _key(example: Example) -> Key:
    return normalise_text(example.segments[0][0]), normalise_text(example.target or "")


MIN_WORDS = 4
"""A text of fewer words may well be the same in both languages: names, commands, numbers."""
MAX_LENGTH_RATIO = 2.0
"""How many times longer or shorter than usual for its source a translation must be. Of 11,857 pairs
of software help, news and general text, twice finds four, all aligned wrongly."""
MIN_LENGTH_DIFFERENCE = 40
"""Characters by which such a translation must differ too: short texts vary more."""
LANGUAGES_WITHOUT_CARONS = ("da", "de", "en", "es", "fi", "fr", "hu", "it", "nl", "pt", "sv")
"""Languages without the characteristic letters of others (`language.CHARACTERISTIC_LETTERS`)."""


def audit_parallel(dataset: Dataset, checks: Checks) -> list[Finding]:
    """All findings; those that many rows have in common are summarised."""
    keys = target_keys(dataset)
    parts = (("train", dataset.train), ("test", dataset.test))
    of = f"of {len(dataset.train) + len(dataset.test)} pairs"
    return [
        *(f for name, examples in parts for f in _find_swapped(dataset, name, examples)),
        *summarise(_find_foreign_script(dataset), of),
        *summarise(_find_length_outliers(dataset), of),
        *summarise(_find_untranslated(dataset, keys), of),
        *_count_short_untranslated(dataset, keys),
        *audit_targets(dataset, keys, checks, TRANSLATION),
    ]


def _find_swapped(dataset: Dataset, name: str, examples: Sequence[Example]) -> list[Finding]:
    source, target = dataset.languages
    sides = {source: [_source(e) for e in examples], target: [e.target or "" for e in examples]}
    shares = {side: characteristic_letter_share(texts, side) for side, texts in sides.items()}
    for own, other in ((source, target), (target, source)):
        if language_code(other) not in LANGUAGES_WITHOUT_CARONS:
            continue
        other_share = characteristic_letter_share(sides[other], own)
        if other_share > 2 * shares[own] and other_share > 0.01:
            what = (
                f"the {other} texts of {name} look like {own}, and the {own} texts do not "
                f"({other_share:.1%} and {shares[own]:.1%} of their letters are its own)."
            )
            remedy = "Exchange the two columns or files, or source_lang and target_lang."
            return [Finding("warning", "swapped", examples[0].where, what, remedy)]
    return []


def _find_foreign_script(dataset: Dataset) -> list[Finding]:
    findings = []
    for e in (*dataset.train, *dataset.test):
        for language, text in zip(dataset.languages, (_source(e), e.target or ""), strict=True):
            script = detect_foreign_script(text, language)
            if script is not None:
                what = f'the {language} text is in {script.capitalize()} script ("{text[:40]}").'
                remedy = "Fix or remove the row."
                findings.append(Finding("warning", "wrong-script", e.where, what, remedy))
    return findings


def _find_length_outliers(dataset: Dataset) -> list[Finding]:
    """Pairs one side of which is far too long: often aligned wrongly."""
    pairs = [(e, _source(e), e.target) for e in (*dataset.train, *dataset.test) if e.target]
    if not pairs:
        return []
    median_ratio = median(len(target) / len(source) for _, source, target in pairs)
    findings = []
    for e, source, target in pairs:
        expected = median_ratio * len(source)
        log_ratio = abs(log(len(target) / expected))
        if (
            log_ratio > log(MAX_LENGTH_RATIO)
            and abs(len(target) - expected) > MIN_LENGTH_DIFFERENCE
        ):
            what = (
                f"{len(source)} characters are translated by {len(target)}; "
                f"about {expected:.0f} would be usual here."
            )
            remedy = "Check whether the two belong together; fix or remove the row."
            findings.append(Finding("warning", "far-length", e.where, what, remedy))
    return findings


def _find_untranslated(dataset: Dataset, keys: dict[Example, Key]) -> list[Finding]:
    """Sentences whose source and target are the same."""
    return [
        Finding(
            "warning",
            "untranslated",
            e.where,
            f'source and target are the same ("{_source(e)[:40]}").',
            "Translate or remove it: the model learns to copy.",
        )
        for e in _untranslated_examples(dataset, keys)
        if len(keys[e][0].split()) >= MIN_WORDS
    ]


def _count_short_untranslated(dataset: Dataset, keys: dict[Example, Key]) -> list[Finding]:
    """Short ones, such as names and commands, are counted in one note."""
    short = [
        e for e in _untranslated_examples(dataset, keys) if len(keys[e][0].split()) < MIN_WORDS
    ]
    if not short:
        return []
    what = (
        f'"{_source(short[0])[:40]}" is its own translation; {len(short)} pairs of fewer '
        f"than {MIN_WORDS} words are so."
    )
    remedy = "Nothing to do if they are names or commands."
    return [Finding("note", "untranslated-name", short[0].where, what, remedy)]


def _untranslated_examples(dataset: Dataset, keys: dict[Example, Key]) -> list[Example]:
    """Pairs whose source and target are the same text."""
    return [
        e
        for e in (*dataset.train, *dataset.test)
        if keys[e][0] == keys[e][1] and any(map(str.isalpha, _source(e)))
    ]


def _source(example: Example) -> str:
    return example.segments[0][0]


CHECKS: dict[str, Callable[[Dataset, Checks], list[Finding]]] = {
    "labels": _check_classes,
    "choices": _check_choices,
    "numbers": _check_numbers,
    "texts": _audit_examples,
    "parallel": audit_parallel,
    "instructions": audit_instructions,
}
"""Checks by name; which of them a dataset needs is a fact of its objective."""
