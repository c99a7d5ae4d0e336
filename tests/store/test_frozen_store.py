"""A store written in November 2026 (schema version 2): every later version opens and continues it.

``format_2`` is never written again. It was made by ``dev/make_frozen_store.py``.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.tiny_study import digests

import paretune
from paretune.execution.run_executor import make_training_executor
from paretune.execution.signals import StopRequest
from paretune.execution.worker import WorkerOptions, run_worker
from paretune.planning import preflight
from paretune.store import Store
from paretune.study import Study

FROZEN = Path(__file__).parent / "format_2"
OUTCOMES = {
    ("tune", "lora"): ["ok", "ok", "ok"],
    ("tune", "full"): ["collapsed", "ok", "diverged"],
    ("tune", "head_only"): ["ok", "ok", "ok"],
    ("final", "lora"): ["collapsed", "ok"],
    ("final", "full"): ["collapsed", "ok"],
    ("final", "majority"): ["collapsed"],
    ("final", "tfidf"): ["ok"],
    ("cost", "lora"): ["ok"],
}


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    """A copy of the frozen study in a folder of another name."""
    return Path(shutil.copytree(FROZEN, tmp_path / "moved"))


def test_its_records_are_read(frozen: Path) -> None:
    study = Study.load(frozen / "study.yaml")
    with Store.open(frozen / "store") as store:
        assert store.verify() == []
        records = store.load_records(study.study_hash, predictions=True)
        outcomes: dict[tuple[str, str], list[str]] = {}
        for record in records:
            outcomes.setdefault((record.run.stage, record.run.method.key), []).append(
                record.outcome
            )
        assert outcomes == OUTCOMES
        (tfidf,) = (r for r in records if r.run.method.name == "tfidf")
        assert tfidf.result["scores"]["test"]["primary"] == 1.0
        assert len(tfidf.predictions["test"].uid) == 20
        weights = [r.result["weights"] for r in records if "weights" in r.result]
        assert len(weights) == 2 and all(store.read_blob(sha256) for sha256 in weights)


def test_it_is_reported(frozen: Path) -> None:
    (task,) = paretune.report(frozen / "study.yaml", store=frozen / "store").tasks
    assert {row.method for row in task.rows} >= {"lora", "full"}
    assert task.likelihood is not None  # computed from logits that were always stored
    grid = task.likelihood.grid
    scored = [
        row.method
        for (row, _), scores in zip(grid.rows, grid.intervals, strict=True)
        if scores[0] is not None
    ]
    assert {"lora", "full", "majority", "tfidf"} <= set(scored)


@pytest.mark.thorough
def test_it_is_continued_with_the_same_runs(frozen: Path) -> None:
    study = Study.load(frozen / "study.yaml")
    with Store.open(frozen / "store") as store:
        before = digests(store, study.study_hash)
        ids = [status.run_id for status in store.load_statuses(study.study_hash)]
        context = preflight.make_context(store, "cpu")
        assert preflight.add_missing_runs(study, context, store) == 0
        executor, options = make_training_executor("cpu", 1), WorkerOptions(("tune", "final"))
        run_worker(store, study.study_hash, executor, StopRequest(), options)
        assert preflight.add_missing_runs(study, context, store) == 0
        statuses = store.load_statuses(study.study_hash)
        after = digests(store, study.study_hash)
        assert store.verify() == []
    assert [status.run_id for status in statuses] == ids
    assert [(s.stage, s.run.method.key) for s in statuses if not s.ended] == [
        ("cost", "full"),
        ("cost", "head_only"),
    ]
    assert {run_id: after[run_id] for run_id in before} == before
    assert len(after) == len(before) + 2
