"""What is mirrored: an ended run, or a cell whose final runs have all ended, as flat names.

A score of one run comes with the interval over its examples (``test/primary_low``,
``test/primary_high``, ``test/examples``, ``test/seeds`` = 1); the score of a cell with that over
seeds and examples. What was not measured is absent, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from paretune.analysis.cells import Cell
from paretune.analysis.statistics.score_interval import (
    Interval,
    bootstrap_score,
    confidence_interval,
)
from paretune.store import Record
from paretune.study import Study, digest

Setting = str | int | float | bool

_APART = ("curve", "scores", "signatures")
"""Of a result: told as curve, as scores with their interval, and as text."""


@dataclass(frozen=True)
class Entry:
    """One run or one cell.

    ``identity``: see :func:`run_identity`, :func:`cell_identity`. ``kind`` is a stage, or
    ``cell``. ``curve``: step, and values by name. ``numbers``: final values by name (bytes, seconds
    and scores as in the store). ``texts``: messages, notes and signatures.
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
    numbers = {f"result/{k}": v for k, v in _flat(_kept(result))}
    numbers |= dict(_flat(_without(record.measured, "environment"), "measured/"))
    for part, found in result.get("scores", {}).items():
        numbers |= dict(_flat({k: v for k, v in found.items() if k != "n"}, f"{part}/"))
        numbers[f"{part}/examples"] = found["n"]
        if part in record.predictions:
            interval = confidence_interval(bootstrap_score([record.predictions[part]], metric))
            numbers |= _numbers(interval, f"{part}/primary")
            numbers |= {f"{part}/examples": interval.n_examples, f"{part}/seeds": 1}
    return Entry(
        identity=run_identity(record),
        name=f"{' x '.join(run.cell)}{rate} seed {run.seed}{fold} {run.stage}",
        group=" x ".join(run.cell),
        kind=run.stage,
        outcome=record.outcome,
        settings={
            **_named(study, run.cell),
            "metric": metric,
            **dict(_settings(run.canonical_form() | {"learning_rate": run.learning_rate})),
            **dict(_settings(record.measured.get("environment", {}), "environment/")),
        },
        numbers=_finite(numbers),
        curve=tuple(_curve(result)),
        texts=_texts(record),
    )


def run_identity(record: Record) -> str:
    """The run's id; of an attempt that stopped with an error another, since it may be retried."""
    return f"{record.run_id}-error" if record.outcome == "error" else record.run_id


def cell_identity(cell: Cell) -> str:
    """Changes with any of the cell's final runs, so a cell with more seeds is another entry."""
    return f"cell-{digest(sorted(run_identity(record) for record in cell.final))[:16]}"


def cell_entry(study: Study, cell: Cell) -> Entry:
    """A cell of which all final runs have ended: its score over seeds and examples."""
    key = (cell.task, cell.model, cell.method)
    numbers: dict[str, float] = {f"outcomes/{k}": v for k, v in cell.outcomes.items()}
    if (found := cell.interval) is not None:
        numbers |= {"score/estimate": found.estimate, **_numbers(found, "score/interval")}
        numbers |= {"score/examples": found.n_examples, "score/seeds": found.n_seeds}
        if not found.examples_only:
            numbers["score/share_of_variance_from_seeds"] = found.share_seeds
        groups = {"score/groups": found.n_clusters, "score/questions": found.n_questions}
        numbers |= {name: count for name, count in groups.items() if count}
    settings: dict[str, Setting] = {**_named(study, key), "metric": cell.metric}
    if cell.rate is not None:
        settings |= {"learning_rate": cell.rate, "rate_undecided": cell.undecided}
        settings |= {"rate_at_edge": cell.edge}
    settings |= {"selected_on_test": cell.selected_on_test, "baseline": cell.baseline}
    return Entry(
        identity=cell_identity(cell),
        name=f"{' x '.join(key)} all seeds",
        group=" x ".join(key),
        kind="cell",
        outcome=", ".join(f"{kind} {n}" for kind, n in sorted(cell.outcomes.items())),
        settings=settings,
        numbers=_finite(numbers),
    )


def _named(study: Study, cell: tuple[str, str, str]) -> dict[str, Setting]:
    keys: dict[str, Setting] = dict(zip(("task", "model", "method"), cell, strict=True))
    return {"study": study.study, "study_hash": study.study_hash, **keys}


def _numbers(found: Interval, name: str) -> dict[str, float]:
    return {f"{name}_low": found.low, f"{name}_high": found.high}


def _kept(result: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in _APART}


def _without(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key}


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in nested values by their path: ``phases/train/peak_bytes``."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{before}{key}", value


def _settings(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Setting]]:
    """What was asked for, by its path; lists as text, and what is None or empty left out."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{before}{key}/")
        elif isinstance(value, str | int | float):
            yield f"{before}{key}", value
        elif value:
            yield f"{before}{key}", ", ".join(map(str, value))


def _curve(result: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, float]]]:
    for point in result.get("curve") or ():
        values = _finite(dict(_flat(_without(point, "step"), "curve/")))
        yield int(point["step"]), values


def _texts(record: Record) -> dict[str, str]:
    told = {"message": record.message or "", "notes": "\n".join(record.result.get("notes", ()))}
    told |= {f"signature/{k}": v for k, v in record.result.get("signatures", {}).items()}
    absent = record.measured.get("not_measured", {})
    told["not measured"] = "\n".join(f"{name}: {why}" for name, why in absent.items())
    return {name: str(text) for name, text in told.items() if text}


def _finite(numbers: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}
