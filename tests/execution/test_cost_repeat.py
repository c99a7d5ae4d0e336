"""A cost that the study's own runs contradict: measured again, then flagged."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import fake_records, tiny_study
from support.fake_worker import FakeExecutor
from support.tiny_runs import STUDY, a_run, a_store, runs

from paretune.analysis.cells import group_into_cells
from paretune.analysis.pareto.costs import CONTRADICTION_RATIO, find_contradiction
from paretune.execution.signals import StopRequest
from paretune.execution.worker import run_worker
from paretune.execution.worker_settings import WorkerSettings
from paretune.measuring.machine import MachineSpeed
from paretune.planning.predicted_cost import CostPredictor
from paretune.preparation import ProcessCache
from paretune.reporting.rows import list_flags
from paretune.store import Store
from paretune.store.record import Record
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.training import Outcome

HERE = {"system": "Linux", "processor": "x86", "device": "cpu", "threads": 1}


def solo(step: float, **more: Any) -> dict[str, Any]:
    environment = {**HERE, "threads": 2, **more.pop("environment", {})}
    return {
        "step_seconds": {"median": step, "q1": step, "q3": step, "n": 5},
        "batch_tokens": 300,
        "mean_batch_tokens": 100.0,
        "environment": environment,
        **more,
    }


def own(step: float, stage: str = "final", **more: Any) -> Record:
    measured = {"wall_seconds": {"train": 40 * step}, "kept_activations": False, **more}
    measured["environment"] = {**HERE, **more.get("environment", {})}
    return Record("r", a_run(1, stage), "done", None, None, {"steps": 40}, measured)


def contradiction_of(step: float, *records: Record, **more: Any) -> dict[str, Any] | None:
    return find_contradiction(solo(step, **more), a_run(0, "cost"), records)


def test_a_step_of_44_s_beside_own_steps_of_5_s_is_no_figure() -> None:
    """The longest batch has three times the tokens of an ordinary one."""
    assert CONTRADICTION_RATIO == 2.0
    contradiction = contradiction_of(44.0, own(5.0), own(5.0), own(9.0))
    assert contradiction == {"own_step_seconds": 15.0, "runs": 3, "ratio": pytest.approx(44 / 15)}
    assert contradiction_of(29.0, own(5.0)) is None and contradiction_of(31.0, own(5.0)) is not None
    assert contradiction_of(0.1, own(5.0)) is None  # alone it may well be faster


@pytest.mark.parametrize(
    "more",
    [
        {"fleet": 3},
        {"kept_activations": True},
        {"environment": {"processor": "another"}},
        {"environment": {"device": "cuda:0"}},
        {"wall_seconds": {}},
    ],
    ids=lambda more: next(iter(more)),
)
def test_what_cannot_be_compared_says_nothing(more: dict[str, Any]) -> None:
    record = own(1.0, **more)
    assert contradiction_of(44.0, record) is None and contradiction_of(44.0) is None


def test_more_threads_before_are_reckoned_with() -> None:
    assert (
        contradiction_of(44.0, own(5.0, environment={"threads": 4})) is None
    )  # 5 s by four, 10 by two


def outcome(measured: dict[str, Any]) -> Outcome:
    return Outcome({"outcome": "ok", "steps": 40}, measured)


def measuring(store: Store, *steps: float) -> list[dict[str, Any]]:
    """Train one run with steps of 5 s, then measure its cost as often as it is asked for."""
    remaining = list(steps)

    class Measuring(FakeExecutor):
        def execute(self, claim: Any, halvings: int = 0) -> Any:
            if claim.run.stage != "cost":
                return outcome(dict(own(5.0).measured))
            return outcome(solo(remaining.pop(0)))

    run_worker(store, STUDY, Measuring(), StopRequest(), WorkerSettings(stages=("final",)))
    run_worker(store, STUDY, Measuring(), StopRequest(), WorkerSettings(stages=("cost",)))
    assert not remaining
    return [dict(r.measured) for r in store.load_records(STUDY) if r.run.stage == "cost"]


def make_store(tmp_path: Path) -> Store:
    return a_store(tmp_path, [*runs(1, "final", "final"), *runs(1, "cost", "cost")])


def test_it_is_measured_again_and_the_faster_figure_stands(tmp_path: Path) -> None:
    (cost,) = measuring(make_store(tmp_path / "a"), 44.0, 16.0)
    assert cost["step_seconds"]["median"] == 16.0
    assert cost["measured_again"] == {"other_step_seconds": 44.0}
    assert "contradicted" not in cost
    (cost,) = measuring(make_store(tmp_path / "b"), 44.0, 160.0)
    assert cost["step_seconds"]["median"] == 44.0
    assert cost["measured_again"] == {"other_step_seconds": 160.0}
    assert cost["contradicted"]["ratio"] == pytest.approx(44 / 15)


def test_where_it_persists_it_is_flagged_in_record_and_report(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    (cost,) = measuring(store, 44.0, 40.0)
    assert cost["contradicted"] == {
        "own_step_seconds": 15.0,
        "runs": 1,
        "ratio": pytest.approx(40 / 15),
    }
    record = next(r for r in store.load_records(STUDY) if r.run.stage == "cost")
    study = fake_records.study()
    (cell, *_) = [c for c in group_into_cells(study, fake_records.whole(study)) if c.name == "lora"]
    flags = [list(list_flags(replace(cell, cost=costs))) for costs in ((record,), cell.cost)]
    assert "step time in doubt: 2.7 times that of its runs" in flags[0]
    assert not any("in doubt" in flag for flag in flags[1])


def test_a_cost_in_agreement_is_measured_once(tmp_path: Path) -> None:
    (cost,) = measuring(make_store(tmp_path), 16.0)
    assert "measured_again" not in cost and "contradicted" not in cost


def test_plan_shows_the_bound_and_reckons_with_it(
    tmp_path: Path, tiny_model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tiny_study.small(tmp_path / "data", tiny_model("bert"))
    file = tiny_study.as_file(study, tmp_path / "study.yaml")
    code, out, _ = tiny_study.command(
        capsys, "plan", file, "protocol.cost_seconds=3", "--store", tmp_path / "none"
    )
    assert code == 0
    output = " ".join(out.split())
    assert "This includes 2 cost measurements, one at a time" in output
    assert "timed for at most 3 s each (protocol.cost_seconds), inference for 1.5 s" in output


def test_a_long_cost_is_predicted_with_its_bound(tmp_path: Path, tiny_model: Any) -> None:
    """Steps of 58 s: ten of them would take ten minutes; what is timed at least takes three."""
    run = tiny_run(tiny_task(tmp_path), tiny_model("bert"), stage="cost")
    work = CostPredictor(ProcessCache()).predict_work(run)

    def seconds(of_a_step: float) -> float | None:
        # Products take all of it, then what lies between them does, then each half.
        alike = [
            CostPredictor(ProcessCache(), speed).predict(run).seconds
            for speed in (
                MachineSpeed({"fp32": work.operations / (of_a_step * 1e9)}, math.inf),
                MachineSpeed({"fp32": math.inf}, work.moved_bytes / (of_a_step * 1e9)),
                MachineSpeed(
                    {"fp32": 2 * work.operations / (of_a_step * 1e9)},
                    2 * work.moved_bytes / (of_a_step * 1e9),
                ),
            )
        ]
        assert alike == [pytest.approx(alike[0])] * 3
        return alike[0]

    assert seconds(58.0) == pytest.approx(3 * 58.0)
    assert seconds(5.0) == pytest.approx(30.0)  # 20 s for steps and half as much for answers
    assert seconds(0.1) == pytest.approx(1.0)
