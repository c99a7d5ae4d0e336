"""The audit of parallel data. Texts without letters are skipped.

Empty sides are refused when the examples are built, so they are not checked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from statistics import median

from paretune.data.checks.audit_targets import (
    TRANSLATION,
    Key,
    audit_targets,
    target_keys,
)
from paretune.data.checks.language import (
    characteristic_letter_share,
    detect_foreign_script,
    language_code,
)
from paretune.data.example import Dataset, Example
from paretune.data.finding import Finding, summarise
from paretune.study import Checks

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
