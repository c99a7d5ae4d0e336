"""The scores of a study as Every Eval Ever JSON (https://evalevalai.com), schema 0.3.0.

One file for each model and method, in the folders of that project's datastore:
``data/STUDY/OWNER/MODEL/UUID.json``. The same records give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
import uuid
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune import metrics
from paretune.analysis.cell import NO_MODEL
from paretune.file_names import make_file_name
from paretune.metrics import Metric
from paretune.reporting.model import Report
from paretune.reporting.rows import Row
from paretune.reporting.writing import write_file
from paretune.terminal.sanitise import sanitise_line

if TYPE_CHECKING:
    from paretune.analysis.statistics.score_interval import Interval

SCHEMA = "0.3.0"
OWNER = "local"
"""Before the slash of a model's id: it was trained here and has no public name."""

Json = dict[str, Any]


def write_every_eval_ever(report: Report, folder: Path) -> list[Path]:
    """Write one file for each model and method with a score.

    Raises:
        StoreError: they cannot be written there.
    """
    written = []
    for path, document in build_every_eval_ever(report):
        text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
        written.append(write_file(folder / path, f"{text}\n", "the JSON"))
    return written


def build_every_eval_ever(report: Report) -> Iterator[tuple[Path, Json]]:
    """Path below the folder, and content, of each model and method with a score."""
    scored = [row for task in report.tasks for row in task.all_rows if row.interval is not None]
    for model, method in dict.fromkeys((row.cell.model, row.cell.method) for row in scored):
        rows = [row for row in scored if (row.cell.model, row.cell.method) == (model, method)]
        name = make_file_name(method) if model == NO_MODEL else make_file_name(model, method)
        study = make_file_name(report.name)
        place = Path("data", study, OWNER, name, f"{_make_uuid(report, model, method)}.json")
        yield place, _build_document(report, name, rows)


def _build_document(report: Report, name: str, rows: list[Row]) -> Json:
    created = _timestamp(report)
    cell = rows[0].cell
    details = {
        "deployment_type": "self_deployed",
        "model_availability": "unknown",
        "base_model": rows[0].model,
        "method": rows[0].method,
        "baseline": "true" if cell.baseline else "false",
    }
    return {
        "schema_version": SCHEMA,
        "evaluation_id": f"{report.name}/{OWNER}/{name}/{created}",
        "retrieved_timestamp": created,
        "source_metadata": {
            "source_name": f"study {report.name}",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "first_party",
            "additional_details": {"study_hash": report.study_hash, "protocol": report.protocol},
        },
        "eval_library": {"name": "paretune", "version": version("paretune")},
        "model_info": {
            "name": name,
            "id": f"{OWNER}/{name}",
            "additional_details": details,
        },
        "evaluation_results": [_build_result(row) for row in rows if row.interval],
    }


def _build_result(row: Row) -> Json:
    score, metric = row.interval, metrics.get(row.cell.metric)
    assert score is not None  # noqa: S101 - rows without a score are left out
    task = sanitise_line(row.cell.task)
    return {
        "evaluation_result_id": f"{task}/{metric.name}",
        "evaluation_name": task,
        "source_data": {"dataset_name": task, "source_type": "other"},
        "metric_config": _describe_metric(metric),
        "score_details": {
            "score": score.estimate,
            "uncertainty": {
                "confidence_interval": {
                    "lower": score.low,
                    "upper": score.high,
                    "confidence_level": 0.95,
                    "method": "one seed: over the examples only"
                    if score.examples_only
                    else "over seeds and examples",
                },
                "num_samples": score.n_examples,
            },
            "details": _describe_runs(row, score),
        },
    }


def _describe_metric(metric: Metric) -> Json:
    return {
        "evaluation_description": metric.description,
        "metric_id": metric.name,
        "metric_name": metric.title,
        "lower_is_better": not metric.greater_is_better,
        "score_type": "continuous",
        "min_score": _bound(metric.lowest),
        "max_score": _bound(metric.highest),
    }


def _bound(value: float) -> float | str:
    """A bound of a range; infinity as the schema writes it."""
    if math.isfinite(value):
        return value
    return "Infinity" if value > 0 else "-Infinity"


def _describe_runs(row: Row, score: Interval) -> dict[str, str]:
    """All values are texts, as the schema has it."""
    details = {
        "runs": str(score.n_seeds),
        "tested": "cross-validation" if score.design.is_cross_validation else "test part",
        "learning_rate": row.rate if row.cell.rate is not None else "",
        "selected_on_test": "true" if row.cell.selected_on_test else "",
    }
    return {key: text for key, text in details.items() if text}


def _timestamp(report: Report) -> str:
    """Seconds since 1970, when the last run ended; now where that is not known."""
    return str(int(time.time() if report.ended_at is None else report.ended_at))


def _make_uuid(report: Report, model: str, method: str) -> uuid.UUID:
    """Of the form of a random one, as the schema asks for, but the same each time."""
    digest = hashlib.sha256(f"{report.study_hash}\n{model}\n{method}".encode()).digest()
    return uuid.UUID(bytes=digest[:16], version=4)
