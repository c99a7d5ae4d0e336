"""Test rows that are also in train, or whose label no model can learn.

Each finding has its share of the test rows. Above the share that the study tolerates
(:class:`paretune.study.Checks`) it is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from paretune.data.example import Dataset, Example
from paretune.data.finding import MAX_EXAMPLES, Finding, Severity
from paretune.study import Checks


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
