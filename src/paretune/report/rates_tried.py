"""How a rate on trial is written: with its interval, or without a number."""

from __future__ import annotations

from collections.abc import Mapping

from paretune.analysis.budget import Tried
from paretune.analysis.choice import Trial
from paretune.analysis.interval import Interval
from paretune.report import words
from paretune.report.build import Row


def interval(trial: Trial, known: Mapping[float, Tried | None], row: Row) -> Interval | None:
    """Of one rate's selection score; None where its answers are not stored, or all was lost."""
    found = known.get(trial.rate)
    return None if found is None else found.interval(row.cell.metric)


def text(trial: Trial, known: Mapping[float, Tried | None], row: Row) -> str:
    """``1e-3: 0.71 [0.60, 0.82] (40 × 1, 1 fold)``."""
    found = interval(trial, known, row)
    folds = words.counted(trial.folds, "fold")
    lost = f", {trial.failed} lost" if trial.failed else ""
    if found is None:
        score = "lost" if trial.failed == trial.folds else "no answers stored"
        return f"{words.rate(trial.rate)}: {score} ({folds}{lost})"
    return (
        f"{words.rate(trial.rate)}: {words.interval(found)} "
        f"({words.units(found)} × 1, {folds}{lost})"
    )
