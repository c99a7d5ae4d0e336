from dataclasses import asdict, replace

import pytest
from support import fake_records as fake

from paretune.analysis.cells import group_into_cells
from paretune.measuring.costs import CostModel, backtest_predictions, fit_cost_model
from paretune.store.record import ComputeCost, Record
from paretune.study import Study

MIB = 2**20
SPEED, REST = 2e9, 60 * MIB


def add_measurements(
    record: Record, work: ComputeCost, *, slow: float = 1.0, memory_factor: float = 1.0
) -> Record:
    """The record of a run that took what the model says, times ``slow`` and ``memory_factor``."""
    measured = {**record.measured, "work": asdict(work), "environment": fake.ENVIRONMENT}
    if record.run.stage == "cost":
        peak = memory_factor * (work.held_bytes + work.saved_bytes + REST)
        measured["phases"] = {"train": {"peak_bytes": peak}}
    else:
        steps = record.result["steps"]
        measured["wall_seconds"] = {"train": slow * steps * work.operations / SPEED}
    return replace(record, measured=measured)


WORKS = {
    "full": ComputeCost(6e9, 800 * MIB, 500 * MIB),
    "lora": ComputeCost(4e9, 210 * MIB, 400 * MIB),
    "prompt": ComputeCost(4e9, 200 * MIB, 400 * MIB),
    "head_only": ComputeCost(2e9, 200 * MIB, 10 * MIB),
}


def study_of(slow: dict[str, float]) -> tuple[Study, list[Record]]:
    study = fake.study(tasks=[fake.own_task("topics")])
    records = [
        add_measurements(r, WORKS[r.run.method.name], slow=slow.get(r.run.method.name, 1.0))
        if r.run.method.name in WORKS
        else r
        for r in fake.whole(study)
    ]
    return study, records


def test_what_fits_the_model_is_predicted_exactly() -> None:
    study, records = study_of({})
    backtests = backtest_predictions(group_into_cells(study, records, ()))
    assert [one.cell.method for one in backtests] == ["full", "lora", "prompt"]
    for one in backtests:
        assert len(one.seconds) == 3 and len(one.peaks) == 1
        for predicted, measured in (*one.seconds, *one.peaks):
            assert predicted == pytest.approx(measured)


def test_a_method_is_predicted_from_the_others_only() -> None:
    """Whatever lora took says nothing of what is predicted of it, and moves the others' little."""
    usual, records = study_of({})
    slow = study_of({"lora": 4.0})[1]
    before, after = (
        {one.cell.method: one for one in backtest_predictions(group_into_cells(usual, some, ()))}
        for some in (records, slow)
    )
    assert [p for p, _ in before["lora"].seconds] == [p for p, _ in after["lora"].seconds]
    predicted, measured = after["lora"].seconds[0]
    assert predicted / measured == pytest.approx(0.25)
    assert before["lora"].model.speed_runs == 12  # tuning and final runs of two methods
    assert before["lora"].model.residual_runs == 2


def test_another_device_is_no_basis() -> None:
    study, records = study_of({})
    elsewhere = {**fake.ENVIRONMENT, "device": "cuda:0", "device_name": "A"}
    moved = [
        replace(r, measured={**r.measured, "environment": elsewhere})
        if r.run.method.name == "full"
        else r
        for r in records
    ]
    backtests = {
        one.cell.method: one for one in backtest_predictions(group_into_cells(study, moved, ()))
    }
    assert "full" not in backtests
    assert backtests["lora"].model.residual_runs == 1


def test_records_without_work_are_left_out() -> None:
    study = fake.study()
    assert backtest_predictions(group_into_cells(study, fake.whole(study), ())) == []
    nothing = fit_cost_model([])
    assert nothing == CostModel()
    assert (
        nothing.predict_seconds(WORKS["full"], 3) is None
        and nothing.predict_peak_bytes(WORKS["full"]) is None
    )


def test_one_slow_run_changes_little() -> None:
    run = fake.make_run(fake.study(), "final", "lora", 1)
    some = [(add_measurements(fake.record(run), WORKS["lora"]), WORKS["lora"]) for _ in range(4)]
    some.append((add_measurements(fake.record(run), WORKS["lora"], slow=50), WORKS["lora"]))
    assert fit_cost_model(some).operations_per_second == pytest.approx(SPEED)
