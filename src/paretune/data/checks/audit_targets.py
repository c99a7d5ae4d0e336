"""The audit of rows with a text as target: translations, and completions of instructions.

Empty texts are refused when the examples are built, so they are not checked here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from paretune.data.checks.leaks import find_leaks
from paretune.data.example import Dataset, Example, normalise_text
from paretune.data.finding import Finding, summarise
from paretune.study import Checks

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
                _find_duplicates(examples, name, keys, words),
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


def _find_duplicates(
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
