"""Datasets of which every example has a target text: translations and instructions alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from paretune import objectives
from paretune.data import hub
from paretune.data.build import BuildResult
from paretune.data.example import Dataset, Example
from paretune.data.finding import Finding, raise_for_findings
from paretune.data.rows import Row
from paretune.data.split import sample_held_out
from paretune.study import TaskSpec, derive_seed


@dataclass(frozen=True)
class TargetRows:
    """What was read; ``test`` is None where rows of train are to be held out."""

    train: Sequence[Row]
    test: Sequence[Row] | None
    findings: Sequence[Finding]
    source: str
    licence: str = "not stated"
    shifted: Sequence[Row] = ()


@dataclass(frozen=True)
class HoldOut:
    """Which rows become the test part where there is no file for it: a fifth.

    Attributes:
        most: rows of test at most.
        described: what they are, and what stays together (``pairs of train, equal sources``).
    """

    most: int
    described: str


def read_hub_rows(spec: TaskSpec) -> TargetRows:
    """The rows of a hub dataset.

    Raises:
        DataError: it was never fetched, or has no such split.
    """
    loaded = hub.load_splits(spec)
    source = f"{spec.dataset} at commit {loaded.commit} (hub)"
    return TargetRows(
        loaded.train, loaded.test, loaded.findings, source, shifted=loaded.shifted or ()
    )


def build_dataset(
    spec: TaskSpec,
    kind: str,
    rows: TargetRows,
    build: Callable[[Sequence[Row], str], BuildResult],
    hold_out: HoldOut,
    **about: Any,
) -> Dataset:
    """The dataset from its rows; some of train are held out where there are none to test on.

    Args:
        build: the examples of the rows of a part; what cannot be read is among its errors.
        about: further fields of the dataset (``language``, ``languages``, ``prompt``).

    Raises:
        DataError: rows of which no example can be made; all are named at once.
    """
    train = build(rows.train, "train")
    test = BuildResult() if rows.test is None else build(rows.test, "test")
    shifted = build(rows.shifted, "test_shifted") if rows.shifted else BuildResult()
    raise_for_findings([*train.errors, *test.errors, *shifted.errors])
    train_examples, test_examples = train.examples, test.examples
    findings = [*rows.findings, *train.notes, *test.notes, *shifted.notes]
    if rows.test is None:
        train_examples, test_examples, note = _hold_out(train.examples, hold_out)
        findings.append(note)
    limit = spec.limit or {}
    return Dataset(
        task=spec.key,
        kind=kind,
        labels=(),
        train=tuple(train_examples[: limit.get("train")]),
        test=tuple(test_examples[: limit.get("test")]),
        shifted=tuple(shifted.examples[: limit.get("test_shifted")]),
        metric=spec.metric or objectives.get(kind).default_metric,
        licence=spec.licence or rows.licence,
        source=rows.source,
        findings=tuple(findings),
        clustered=spec.group is not None,
        **about,
    )


def _hold_out(
    examples: list[Example], hold_out: HoldOut
) -> tuple[list[Example], list[Example], Finding]:
    """Train and test, and a note: always the same of the same rows."""
    count = min(len(examples) // 5, hold_out.most)
    held_out = sample_held_out(examples, count, derive_seed(0, "hold out"))
    train = [e for i, e in enumerate(examples) if i not in held_out]
    test = [e for i, e in enumerate(examples) if i in held_out]
    note = Finding(
        "note",
        "test-held-out",
        (test or examples)[0].where,
        f"no test file: {len(test)} of {len(examples)} {hold_out.described} together, are the "
        "test part (this is the first of them).",
        "Nothing to do: they are always the same. Files of your own may name a test: FILE.",
    )
    return train, test, note
