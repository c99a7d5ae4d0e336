"""What is mirrored: an ended run, or a cell whose final runs have all ended, as flat values.

A score of one run has the interval over its examples (``test/primary_low``,
``test/primary_high``, ``test/examples``, ``test/seeds`` = 1); the score of a cell has that over
seeds and examples. What was not measured is absent, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from paretune.analysis.cell import Cell
from paretune.analysis.statistics.intervals import Interval, confidence_interval
from paretune.analysis.statistics.scores import score_runs
from paretune.store import Record
from paretune.study import Study, digest

Setting = str | int | float | bool

_SEPARATE = ("curve", "scores", "signatures")
"""Keys of a result that become the curve, scores with their intervals, and texts."""


@dataclass(frozen=True)
class Entry:
    """One run or one cell.

    Attributes:
        identity: of :func:`run_identity` or :func:`cell_identity`.
        kind: a stage, or ``cell``.
        numbers: final values by name (bytes, seconds and scores as in the store).
    """

    identity: str
    name: str
    group: str
    kind: str
    outcome: str
    settings: Mapping[str, Setting]
    numbers: Mapping[str, float]
    curve: tuple[tuple[int, Mapping[str, float]], ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)


def run_entry(study: Study, record: Record, metric: str) -> Entry:
    """An ended run: its settings, curve, scores, costs, environment and how it ended."""
    run, result = record.run, record.result
    rate = "" if run.learning_rate is None else f" rate {run.learning_rate:g}"
    fold = f" fold {run.fold}" if run.stage == "tune" and run.fold else ""
    if run.outer is not None:
        fold = f" outer fold {run.outer.position} of {run.outer.folds}"
    scores = result.get("scores", {})
    measured = {**record.measured, "environment": {}}
    numbers = _numbers({"result": _without(result, *_SEPARATE), "measured": measured, **scores})
    for part in scores:
        numbers[f"{part}/examples"] = numbers.pop(f"{part}/n")
        if part in record.predictions:
            interval = confidence_interval(score_runs([record.predictions[part]], metric))
            numbers |= _interval_ends(interval, f"{part}/primary")
            numbers |= {f"{part}/examples": interval.n_examples, f"{part}/seeds": 1}
    curve = (
        (int(point["step"]), _numbers({"curve": _without(point, "step")}))
        for point in result.get("curve") or ()
    )
    reasons = record.measured.get("not_measured", {})
    texts = {
        "message": record.message or "",
        "notes": "\n".join(result.get("notes", ())),
        **{f"signature/{name}": str(text) for name, text in result.get("signatures", {}).items()},
        "not measured": "\n".join(f"{name}: {why}" for name, why in reasons.items()),
    }
    settings = {**run.canonical_form(), "learning_rate": run.learning_rate}
    return Entry(
        identity=run_identity(record),
        name=f"{' x '.join(run.cell)}{rate} seed {run.seed}{fold} {run.stage}",
        group=" x ".join(run.cell),
        kind=run.stage,
        outcome=record.outcome,
        settings={
            **_name_settings(study, run.cell, metric),
            **_settings(settings),
            **_settings({"environment": record.measured.get("environment", {})}),
        },
        numbers=_numbers(numbers),
        curve=tuple(curve),
        texts={name: text for name, text in texts.items() if text},
    )


def run_identity(record: Record) -> str:
    """The run's id; a different one after an error, since the run may be retried."""
    return f"{record.run_id}-error" if record.outcome == "error" else record.run_id


def cell_identity(cell: Cell) -> str:
    """Changes with any of the cell's final runs, so a cell with more seeds is another entry."""
    return f"cell-{digest(sorted(run_identity(record) for record in cell.final))[:16]}"


def cell_entry(study: Study, cell: Cell) -> Entry:
    """A cell whose final runs have all ended: its score over seeds and examples."""
    key = (cell.task, cell.model, cell.method)
    numbers: dict[str, float] = {f"outcomes/{k}": v for k, v in cell.outcomes.items()}
    if (score := cell.interval) is not None:
        numbers |= {"score/estimate": score.estimate, **_interval_ends(score, "score/interval")}
        numbers |= {"score/examples": score.n_examples, "score/seeds": score.n_seeds}
        if not score.examples_only:
            numbers["score/share_of_variance_from_seeds"] = score.share_seeds
        groups = {"score/groups": score.n_clusters, "score/questions": score.n_questions}
        numbers |= {name: count for name, count in groups.items() if count}
    settings = _name_settings(study, key, cell.metric)
    if cell.rate is not None:
        settings |= {"learning_rate": cell.rate, "rate_undecided": cell.undecided}
        settings |= {"rate_at_edge": bool(cell.edge)}
    settings |= {"selected_on_test": cell.selected_on_test, "baseline": cell.baseline}
    return Entry(
        identity=cell_identity(cell),
        name=f"{' x '.join(key)} all seeds",
        group=" x ".join(key),
        kind="cell",
        outcome=", ".join(f"{kind} {n}" for kind, n in sorted(cell.outcomes.items())),
        settings=settings,
        numbers=_numbers(numbers),
    )


def _name_settings(study: Study, cell: tuple[str, str, str], metric: str) -> dict[str, Setting]:
    keys = dict(zip(("task", "model", "method"), cell, strict=True))
    return {"study": study.study, "study_hash": study.study_hash, **keys, "metric": metric}


def _interval_ends(score: Interval, name: str) -> dict[str, float]:
    return {f"{name}_low": score.low, f"{name}_high": score.high}


def _without(values: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in keys}


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """What nested values hold, by path: ``phases/train/peak_bytes``."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers in nested values by their path."""
    return {
        path: float(value)
        for path, value in _flatten(values)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _settings(values: Mapping[str, Any]) -> dict[str, Setting]:
    """Settings by their path; lists as text; None and empty lists are left out."""
    return {
        path: value if isinstance(value, str | int | float) else ", ".join(map(str, value))
        for path, value in _flatten(values)
        if isinstance(value, str | int | float) or value
    }
