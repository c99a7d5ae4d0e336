"""Scores as Every Eval Ever JSON: what its schema asks for, the same bytes each time."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support import fake_records as fake

from paretune.reporting.build import build_report
from paretune.reporting.json.every_eval_ever import build_every_eval_ever, write_every_eval_ever

PLACE = re.compile(
    r"data/[^/]+/[^/]+/[^/]+/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\.json"
)


@pytest.fixture(scope="module")
def report() -> Any:
    study = fake.study()
    return build_report(study, fake.whole(study), [], [])


def test_every_score_is_in_one_file_of_its_model_and_method(report: Any, tmp_path: Path) -> None:
    paths = write_every_eval_ever(report, tmp_path)
    assert all(PLACE.fullmatch(path.relative_to(tmp_path).as_posix()) for path in paths)
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    score_details = {
        (
            result["evaluation_name"],
            document["model_info"]["additional_details"]["method"],
        ): result["score_details"]
        for document in documents
        for result in document["evaluation_results"]
    }
    scored = {
        (task.key, row.method): row.interval
        for task in report.tasks
        for row in task.all_rows
        if row.interval is not None
    }
    assert score_details.keys() == scored.keys()
    for key, interval in scored.items():
        bounds = score_details[key]["uncertainty"]["confidence_interval"]
        assert score_details[key]["score"] == interval.estimate
        assert (bounds["lower"], bounds["upper"]) == (interval.low, interval.high)
        assert score_details[key]["uncertainty"]["num_samples"] == interval.n_examples
        assert score_details[key]["details"]["runs"] == str(interval.n_seeds)


def test_the_same_records_give_the_same_files(report: Any) -> None:
    first, again = ([path for path, _ in build_every_eval_ever(report)] for _ in range(2))
    assert first == again and len(set(first)) == len(first)


def test_it_is_valid_by_the_schema_of_the_project(report: Any) -> None:
    """Where its package is installed, which needs Python 3.12."""
    jsonschema = pytest.importorskip("jsonschema")
    schemas = pytest.importorskip("every_eval_ever.schema")
    for _, document in build_every_eval_ever(report):
        jsonschema.validate(document, schemas.schema_json())
        assert document["schema_version"] == schemas.get_schema_version()
