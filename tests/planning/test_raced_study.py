"""A real raced study, killed and continued: the same runs, its report, and what it spared."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import tiny_study

from paretune.analysis.cells import build_cells
from paretune.planning.prepare import prepare_study
from paretune.planning.race import plan_runs, plan_wanted_runs
from paretune.store import Store
from paretune.study import Study
from paretune.training.caches import ProcessCache
from paretune.verbs import study_input
from paretune.verbs.plan import plan
from paretune.verbs.recommend import recommend
from paretune.verbs.report import load_results, report
from paretune.verbs.run import run
from paretune.verbs.watch import watch

pytestmark = pytest.mark.slow


def raced(folder: Path, model: Path, **protocol: Any) -> Study:
    settings = {"trials": 2, "folds": 2, "seeds": [1, 2, 3], "outer": "split", "cost_seconds": 0.5}
    return tiny_study.small(
        folder,
        model,
        methods=[{"name": "lora", "rank": 2}, "bitfit"],
        protocol={**settings, "race": "recommendation", **protocol},
    )


def test_a_killed_race_goes_on_and_says_what_it_stands_for(tmp_path: Path, tiny_model: Any) -> None:
    study = raced(tmp_path / "data", tiny_model("bert"))
    file = tiny_study.as_file(study, tmp_path / "study.yaml")
    folder = tmp_path / "store"
    command = [sys.executable, "-m", "paretune", "run", str(file), "--store", str(folder)]
    process = subprocess.Popen([*command, "--workers", "1", "--no-report"])
    while not _count_ended(folder, study):
        assert process.poll() is None
        time.sleep(0.2)
    process.kill()
    process.wait()
    result = run(Study.load(file), store=folder, workers=1)
    assert not result.summary.failed
    with Store.open(folder) as opened:
        records = study_input.load_records(study, opened)
        states = opened.load_statuses(study.study_hash)
    assert all(state.ended for state in states)
    caches = ProcessCache()
    ended = {record.run_id for record in records}
    assert {one.run_id for one in plan_wanted_runs(prepare_study(study, caches), records)} == ended
    assert not plan_runs(prepare_study(study, caches), records).undecided
    cells = build_cells(study, records)
    assert all(c.cost for c in cells if not c.baseline)
    assert not report(study, store=folder).unfinished
    progress = watch(study, store=folder)
    assert progress.finished and progress.spared is not None and progress.spared["undecided"] == 0
    planned = plan(study, store=folder, workers=1)
    assert planned.done == len(planned.runs)
    spared = sum(one.run.stage == "final" for one in planned.given_up)
    assert spared == progress.spared["runs"]
    (advice,) = recommend(study, store=folder)
    assert spared == 0 or any("3 seeds each would say the same" in t for t in advice.explanations)


def _count_ended(folder: Path, study: Study) -> int:
    if not (folder / "study.db").is_file():
        return 0
    with Store.open(folder) as opened:
        return sum(state.ended for state in opened.load_statuses(study.study_hash))


def test_a_budget_ends_honestly_and_continues(
    tmp_path: Path, tiny_model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from paretune.execution.progress import open_observer

    study = raced(tmp_path / "data", tiny_model("bert"), trials=1, folds=1)
    folder = tmp_path / "store"
    with open_observer() as observer:
        run(study, store=folder, workers=1, budget=1.0, observer=observer)
    assert "The time is up after" in capsys.readouterr().out
    with Store.open(folder) as opened:
        before = len(opened.load_records(study.study_hash))
    run(study, store=folder, workers=1)
    with Store.open(folder) as opened:
        assert len(opened.load_records(study.study_hash)) > before
    assert json.dumps(load_results(study, folder).study.canonical_form())
