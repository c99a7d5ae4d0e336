"""Predictions on a tiny real study: what a run noted beforehand is what is predicted of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import tiny_study

from paretune.measuring import devices
from paretune.measuring.devices import Gpu
from paretune.measuring.machine import MachineSpeed
from paretune.planning.predicted_cost import CostPredictor
from paretune.preparation import ProcessCache
from paretune.store.record import ComputeCost, Record
from paretune.study import NO_MODEL, Generation, OuterFold, Study
from paretune.testing import tiny_models
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.testing.translator_folders import tiny_marian, tiny_pairs

pytestmark = pytest.mark.thorough

SPEED = MachineSpeed({"fp32": 1.0, "bf16": 2.0}, gigabytes_per_second=1.0)
"""Of a made-up machine."""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, list[Record]]:
    folder = tmp_path_factory.mktemp("predict")
    model = tiny_models.tiny_model("bert", folder / "bert")
    study = tiny_study.small(folder / "data", model, methods=["full", {"name": "lora", "rank": 2}])
    with tiny_study.finish(study, folder / "store", costs=1) as store:
        records = [r for r in store.load_records(study.study_hash) if r.run.model != NO_MODEL]
    return study, records


def test_runs_note_what_they_were_to_do(done: tuple[Study, list[Record]]) -> None:
    _study, records = done
    works = {(r.run.method.name, r.run.stage): ComputeCost.from_record(r) for r in records}
    full, lora = works["full", "final"], works["lora", "final"]
    assert full is not None and lora is not None
    # 6 N T against 4 N T, and what LoRA has of its own.
    assert 1.4 * lora.operations < full.operations < 1.5 * lora.operations
    assert full.held_bytes > lora.held_bytes
    assert full.saved_bytes > lora.saved_bytes


def test_the_same_is_known_before(done: tuple[Study, list[Record]]) -> None:
    """What plan reckons with is what the run itself noted; mean lengths are of all texts there."""
    _study, records = done
    predictor = CostPredictor(ProcessCache(), SPEED)
    for record in records:
        recorded, before = ComputeCost.from_record(record), predictor.predict_work(record.run)
        assert recorded is not None
        assert before.held_bytes == recorded.held_bytes
        assert before.operations == pytest.approx(recorded.operations, rel=0.1)
        assert before.saved_bytes == pytest.approx(recorded.saved_bytes, rel=0.1)


def test_records_set_the_speed_and_the_rest(
    done: tuple[Study, list[Record]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, records = done
    final = [r for r in records if r.run.stage == "final" and r.run.method.name == "lora"][:1]
    (cost,) = [r for r in records if r.run.stage == "cost"]
    cost = replace(cost, run=cost.run.model_copy(update={"method": final[0].run.method}))
    work = CostPredictor(ProcessCache(), SPEED).predict_work(cost.run)
    peak = work.held_bytes + work.saved_bytes + 3_000_000
    records = [
        replace(final[0], measured={"wall_seconds": {"train": 7.0}}),
        replace(cost, measured={"phases": {"train": {"peak_bytes": peak}}}),
    ]
    steps = final[0].result["steps"]
    predicted = CostPredictor(ProcessCache(), SPEED, records).predict(final[0].run)
    assert steps == 2 and predicted.seconds == pytest.approx(7.0)
    assert predicted.basis == "1 ended run of this model"
    assert CostPredictor(ProcessCache(), SPEED, records).predict(
        cost.run
    ).peak_bytes == pytest.approx(peak)
    # On another device they say nothing, and a CPU's speed says nothing of a GPU.
    monkeypatch.setattr(
        devices, "_query_in_subprocess", lambda device: Gpu("NVIDIA L4", 1, 1, (8, 9))
    )
    other = CostPredictor(ProcessCache(), SPEED, records, device="cuda").predict(cost.run)
    assert other.peak_bytes == work.held_bytes + work.saved_bytes
    assert (other.seconds, other.memory_basis) == (None, "tensor sizes")
    assert "no run of this model has ended on this GPU" in other.basis
    # Of two cards of one name one tells of the other, and a card of another name does not.
    of_card: dict[str, Any] = {"device": "cuda:1", "device_name": "NVIDIA L4"}
    records[0].measured["environment"] = of_card
    on_card = CostPredictor(ProcessCache(), SPEED, records, device="cuda").predict(final[0].run)
    assert on_card.basis == "1 ended run of this model"
    records[0].measured["environment"] = {**of_card, "device_name": "NVIDIA H100"}
    assert (
        CostPredictor(ProcessCache(), SPEED, records, device="cuda").predict(final[0].run).seconds
        is None
    )


def test_answers_are_counted_too(tmp_path: Path, tiny_model: Any) -> None:
    """Those of the selection part after each epoch, and those of the test rows at the end."""
    run, caches = tiny_run(tiny_task(tmp_path), tiny_model("bert")), ProcessCache()
    in_epochs = run.training.model_copy(update={"epochs": 3, "max_steps": None})
    run = run.model_copy(update={"training": in_epochs})
    rows, test = len(caches.dataset(run.task).train), len(caches.dataset(run.task).test)
    predictor = CostPredictor(caches, SPEED)

    def evaluated(**changes: Any) -> int:
        read, generated = predictor.count_evaluated(run.model_copy(update=changes))
        assert generated == 0
        return read

    selection = rows - rows * 4 // 5
    assert evaluated(stage="final") == 3 * selection + test
    assert evaluated(stage="tune") == 3 * selection
    assert evaluated(stage="final", selection="test") == 4 * test
    assert evaluated(stage="final", learning_rate=None) == test
    assert evaluated(stage="cost") == 0
    fold = OuterFold(index=0, folds=3, repeat=0)
    inside = rows + test - (rows + test) * 2 // 3
    outside = rows + test - inside
    assert evaluated(stage="final", learning_rate=None, outer=fold) == inside
    assert evaluated(stage="tune", outer=fold) == 3 * (outside - outside * 4 // 5)
    without = predictor.predict(run.model_copy(update={"learning_rate": None})).seconds
    assert without is not None and without > 0


def test_a_text_is_searched_word_by_word(tmp_path: Path) -> None:
    run = tiny_run(tiny_pairs(tmp_path / "data"), tiny_marian(tmp_path / "marian"), stage="final")
    caches, seconds = ProcessCache(), list[float]()
    dataset, predictor = caches.dataset(run.task), CostPredictor(caches, SPEED)
    train, test = len(dataset.train), len(dataset.test)
    assert predictor.count_evaluated(run)[1] == train - train * 4 // 5 + test
    for beams in (1, 4):
        searched = run.model_copy(update={"generation": Generation(num_beams=beams)})
        seconds.append(predictor.predict(searched).seconds or 0.0)
    assert 0 < seconds[0] < seconds[1] < 4 * seconds[0]
