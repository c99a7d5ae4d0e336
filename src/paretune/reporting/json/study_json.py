"""A whole study as one JSON file: scores, comparisons, costs, curves, environment, failures.

The fields are in :mod:`paretune.reporting.json.json_fields`. What is not there is
null; NaN and infinity are never written. The same records give the same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from paretune.analysis.cell import NO_MODEL
from paretune.analysis.memory_breakdown import RESIDENT_PARTS, MemoryBreakdown
from paretune.analysis.secondary_scores import measure_forgetting
from paretune.errors import StoreError
from paretune.reporting.json.json_fields import FIELDS, FORMAT, OPEN
from paretune.reporting.model import Finding, Report, TaskReport
from paretune.reporting.rows import Grid, Row, RunScores
from paretune.reporting.tables.likelihood_table import LikelihoodReport
from paretune.reporting.tables.over_tasks_table import OverTasksLine
from paretune.reporting.text.recommendation import Advice
from paretune.reporting.writing import write_file
from paretune.store.record import Record

if TYPE_CHECKING:
    from paretune.analysis.statistics.intervals import Interval

Json = dict[str, Any]
_BASIS = ("score", "low", "high", "examples", "groups", "questions", "seeds")


def write_json(report: Report, path: Path) -> Path:
    """Write the study to ``path``, whole or not at all.

    Raises:
        StoreError: it cannot be written there.
    """
    text = json.dumps(build_study_json(report), indent=1, allow_nan=False)
    return write_file(path, f"{text}\n", "the JSON")


def read_json(path: Path) -> Json:
    """A file of :func:`write_json`, checked.

    Raises:
        StoreError: no such file, no JSON, another format, or parts of a study are missing.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except OSError as error:
        raise StoreError(f"cannot be read ({error.strerror}).", where=str(path)) from None
    except (ValueError, RecursionError) as error:
        raise StoreError(f"is no JSON ({error}).", where=str(path)) from None
    if not isinstance(document, dict) or not isinstance(document.get("format"), int):
        raise StoreError(
            "is not the JSON of a study.",
            where=str(path),
            remedy="paretune report --json --output FILE writes it.",
        )
    if document["format"] != FORMAT:
        raise StoreError(
            f"has format {document['format']}; this paretune reads {FORMAT}.",
            where=str(path),
            remedy="Write it again with this version, or read it with the one that wrote it.",
        )
    present = set(field_paths(document))
    missing = [
        name for name in ("study", "tasks", "environment", "failures") if name not in present
    ]
    if missing:
        raise StoreError(f"has no {', '.join(missing)}.", where=str(path))
    return document


def field_paths(value: Any, at: str = "") -> Iterator[str]:
    """The path of every field, as in :data:`~paretune.reporting.json.json_fields.FIELDS`."""
    if at:
        yield at
    if at in OPEN:
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from field_paths(item, f"{at}.{key}" if at else key)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, Mapping):
                yield from (path for path in field_paths(item, f"{at}[]") if path != f"{at}[]")


def build_study_json(report: Report) -> Json:
    """The study as plain values that JSON can hold."""
    document = {
        "format": FORMAT,
        "paretune": version("paretune"),
        "study": {
            "name": report.study_settings["study"],
            "hash": report.study_hash,
            "protocol": report.protocol,
            "settings": report.study_settings,
            "runs": report.ended_runs,
            "departures": list(report.departures),
        },
        "tasks": [_task(task) for task in report.tasks],
        "over_tasks": [_over_tasks(line) for line in report.over_tasks],
        "failures": [
            {"where": f.where, "outcome": f.outcome, "runs": f.runs, "said": f.message}
            for f in report.failures
        ],
        "unfinished": list(report.unfinished),
        "findings": [_finding(finding) for finding in report.findings],
        "notes": list(report.notes),
        "environment": dict(report.environment),
    }
    cleaned: Json = _plain(document)
    return cleaned


def _task(task: TaskReport) -> Json:
    constant = None
    if task.constant_score is not None:
        constant = _interval(task.constant_score)
    return {
        "key": task.key,
        "metric": task.all_rows[0].cell.metric if task.all_rows else None,
        "title": task.metric,
        "highest": task.highest,
        "constant": constant,
        "sentences": list(task.sentences),
        "recommendation": task.advice and _recommendation(task.advice),
        "likelihood": _likelihood(task.likelihood),
        "cells": [_cell(row, task) for row in task.all_rows],
    }


def _likelihood(likelihood: LikelihoodReport | None) -> Json | None:
    if likelihood is None or not likelihood.runs:
        return None
    pairs = [
        {
            "model": group.model,
            "a": pair.a,
            "b": pair.b,
            **_interval(pair.difference, "difference"),
            "p": pair.difference.p,
            "p_holm": pair.p_holm,
            "standing": pair.standing,
        }
        for group in likelihood.pairs
        for pair in group.pairs
    ]
    return {"unit": likelihood.unit, "pairs": pairs}


def _cell_likelihood(row: Row, task: TaskReport) -> Json | None:
    if task.likelihood is None:
        return None
    for (of_row, _), intervals in zip(
        task.likelihood.grid.rows, task.likelihood.grid.intervals, strict=True
    ):
        if of_row is row and (log_likelihood := intervals[0]) is not None:
            brier = intervals[1]
            return {
                "log_likelihood": _interval(log_likelihood),
                "brier": brier and _interval(brier),
            }
    return None


def _forgetting(row: Row) -> Json | None:
    measured = measure_forgetting(row.cell)
    if measured is None:
        return None
    ends = {key: getattr(measured.change, key) for key in ("estimate", "low", "high")}
    return {
        **ends,
        "blocks": measured.change.n_examples,
        "seeds": measured.change.n_seeds,
        "tokens": measured.tokens,
        "before": measured.before,
        "after": measured.after,
    }


def _shifted(row: Row, grid: Grid | None) -> Json | None:
    """The score on the shifted part, and its change from the test part."""
    if grid is None:
        return None
    for (of_row, _), (score, change, *_) in zip(grid.rows, grid.intervals, strict=True):
        if of_row is row and score is not None:
            ends = change and {key: getattr(change, key) for key in ("estimate", "low", "high")}
            return {**_interval(score), "change": ends}
    return None


def _recommendation(advice: Advice) -> Json:
    prospect = advice.prospect
    return {
        "kind": advice.kind,
        "take": advice.take or None,
        "proven": advice.proven,
        "within_points": advice.within_points,
        "free_baseline": advice.free_baseline or None,
        "prospect": prospect and asdict(prospect),
        "words": [*advice.warnings, *advice.reasons, *advice.changes],
    }


def _over_tasks(line: OverTasksLine) -> Json:
    values = line.values
    (failed, runs), (reference_failed, reference_runs) = values.failed
    return {
        "model": values.model,
        "method": values.method,
        "reference": values.reference,
        "points": values.points,
        "low": values.low,
        "high": values.high,
        "p": values.p,
        "p_holm": values.p_holm,
        "standing": values.standing,
        "withheld": values.withheld or None,
        "p_heterogeneity": values.p_heterogeneity,
        "any_task_low": values.any_task[0],
        "any_task_high": values.any_task[1],
        "failed": failed,
        "runs": runs,
        "reference_failed": reference_failed,
        "reference_runs": reference_runs,
        "words": "; ".join(filter(None, (line.sentence, line.further))),
        "tasks": [
            {"task": e.task, "points": e.points, "rows": e.rows, "error": math.sqrt(e.variance)}
            for e in values.effects
        ],
    }


def _cell(row: Row, task: TaskReport) -> Json:
    cell, verdict = row.cell, row.verdict
    score = None
    if row.interval is not None:
        share = None if row.interval.examples_only else row.interval.share_seeds
        score = {**_interval(row.interval), "from_seeds": share}
    return {
        "model": None if cell.model == NO_MODEL else cell.model,
        "method": cell.method,
        "name": cell.name,
        "baseline": cell.baseline,
        "readout": cell.readout,
        "finished": cell.finished,
        "rate": cell.rate,
        "outer_folds": cell.design.folds,
        "outer_repeats": cell.design.repeats,
        "rate_undecided": cell.undecided,
        "rate_edge": cell.edge,
        "tried": list(_tried(row)),
        "score": score,
        "likelihood": _cell_likelihood(row, task),
        "shifted": _shifted(row, task.shifted),
        "forgetting": _forgetting(row),
        "others": list(_others(row, task)),
        "failures": _failures(row),
        "at_most_points_worse": row.shortfall and row.shortfall.points,
        "verdict": verdict
        and {
            "standing": verdict.standing,
            "words": verdict.summary,
            "missing": list(verdict.missing),
        },
        "comparisons": [
            {
                "with": one.baseline,
                **_interval(one.difference, "difference"),
                "p": one.difference.p,
                "p_holm": one.p_holm,
                "standing": one.standing,
            }
            for one in (verdict.comparisons if verdict else ())
        ],
        "flags": list(row.flags),
        "runs": [
            {**_run(record, scores), "likelihood": _run_likelihood(record, task)}
            for record, scores in zip(cell.final, row.runs, strict=True)
        ],
        "costs": [_cost(record) for record in cell.cost],
        "memory": _memory(row.memory),
    }


def _failures(row: Row) -> Json | None:
    rate = row.cell.failures
    if rate is None or not rate.runs:
        return None
    return {"failed": rate.failed, "runs": rate.runs, "low": rate.low, "high": rate.high}


def _tried(row: Row) -> Iterator[Json]:
    """Rates on trial, as the page has them: a score with its interval and basis, or none."""
    for trial in row.trials:
        score = dict.fromkeys(_BASIS) if trial.score is None else _interval(trial.score, "score")
        yield {"rate": trial.rate, **score, "folds": trial.folds, "lost": trial.failed}


def _others(row: Row, task: TaskReport) -> Iterator[Json]:
    for grid in task.grids:
        for (of_row, _), scores in zip(grid.rows, grid.intervals, strict=True):
            for title, score in zip(grid.titles, scores, strict=True):
                if of_row is row and score is not None:
                    yield {"table": grid.title, "metric": title, **_interval(score)}


def _interval(score: Interval, name: str = "estimate") -> Json:
    return {
        name: score.estimate,
        "low": score.low,
        "high": score.high,
        "examples": score.n_examples,
        "groups": score.n_clusters or None,
        "questions": score.n_questions or None,
        "seeds": score.n_seeds,
    }


def _run(record: Record, alone: RunScores) -> Json:
    result = record.result
    scores = result.get("scores") or {}
    examples = (scores.get("selection") or {}).get("n")
    return {
        "run": record.run_id,
        "seed": record.run.seed,
        "rate": record.run.learning_rate,
        "outer_fold": None if record.run.outer is None else record.run.outer.index,
        "outer_repeat": None if record.run.outer is None else record.run.outer.repeat,
        "outcome": record.outcome,
        "steps": result.get("steps"),
        "best_step": result.get("best_step"),
        "trained_parameters": result.get("trained_parameters"),
        "score": alone.test and _interval(alone.test),
        "score_shifted": (scores.get("test_shifted") or {}).get("primary"),
        "selection": alone.selection and _interval(alone.selection),
        "scores": scores.get("test"),
        "wall_seconds": record.measured.get("wall_seconds"),
        "curve": [_point(point, examples) for point in result.get("curve") or ()],
    }


def _run_likelihood(record: Record, task: TaskReport) -> Json | None:
    runs = task.likelihood.runs if task.likelihood else {}
    one = runs.get(record.run_id)
    if one is None:
        return None
    return {
        "log_likelihood": float(one.log_likelihood.sum() / one.weight.sum()),
        "brier": None if one.brier is None else float(one.brier.mean()),
        "temperature": one.temperature,
        "deviation": one.deviation,
        "examples": len(one.log_likelihood),
    }


def _point(point: Mapping[str, Any], examples: int | None) -> Json:
    selection: Any = point.get("selection")
    if not isinstance(selection, Mapping):
        selection = {"primary": selection}
    return {
        **{key: point.get(key) for key in ("step", "epoch", "loss")},
        "examples": examples,
        "selection": selection.get("primary"),
        "selection_loss": selection.get("loss"),
    }


def _cost(record: Record) -> Json:
    values = {**record.measured, "run": record.run_id, "outcome": record.outcome}
    if values.get("trained_parameters") is None:
        values["trained_parameters"] = record.result.get("trained_parameters")
    return {name: values.get(name) for name in _names("tasks[].cells[].costs")}


def _memory(memory: MemoryBreakdown | None) -> Json | None:
    if memory is None:
        return None
    return {
        "measurements": memory.measurements,
        "peak": memory.peak,
        **{name: memory.counted.get(name) for name in (*RESIDENT_PARTS, "activations")},
        "working": memory.working,
        "rest": memory.rest,
    }


def _names(of: str) -> list[str]:
    """The fields of the objects in a list, as they are documented."""
    before = f"{of}[]."
    return [path.removeprefix(before) for path in FIELDS if path.startswith(before)]


def _finding(finding: Finding) -> Json:
    return {
        "severity": finding.severity,
        "code": finding.code,
        "where": finding.where,
        "what": finding.what,
        "remedy": finding.remedy,
    }


def _plain(value: Any) -> Any:
    """Values of JSON: NaN and infinity become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")
