"""A store tracked by each tracker's own library, offline, and read back from what it wrote."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from support import fake_records as fake
from support.loaded_modules import list_loaded
from support.stored_records import stored, study_file

from paretune.contrib.trackers import TRACKERS, track
from paretune.errors import StudyError, TrackerError
from paretune.store import Record
from paretune.study import Study

Copies = dict[str, tuple[dict[str, Any], dict[str, float], list[tuple[int, float]]]]
"""Settings, numbers and the curve of losses by the run's id."""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    tasks = [fake.own_task("topics")]
    return study_file(fake.study(tasks=tasks, methods=["lora", "full"]), tmp_path / "s.yaml")


@pytest.fixture
def records(study: Study, tmp_path: Path) -> list[Record]:
    """LoRA complete with its cost; of full one run that stopped with an error."""
    lost = fake.record(fake.make_run(study, "final", "full", 1), outcome="error", message="no luck")
    unlabelled = {"unlabelled": fake.answers(0.5, part="unlabelled")}  # which has no scores
    complete = fake.add_parts(fake.cell(study, "lora", 0.7), lambda run: unlabelled)
    stored(study, [*complete, lost], tmp_path / "store").close()
    return complete


@pytest.fixture
def fake_trackio(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """trackio's storage in memory: what was logged, by the run's id."""
    logged: dict[str, dict[str, Any]] = {}

    def bulk_log(project: str, run: str, *, run_id: str, **values: Any) -> None:
        assert run_id not in logged and len(values["steps"]) == len(values["metrics_list"])
        logged[run_id] = {"project": project, "name": run, **values}

    storage = SimpleNamespace(
        validate_project_name=lambda project: None,
        get_run_records=lambda project: [{"id": run_id} for run_id in logged],
        bulk_log=bulk_log,
    )
    module: Any = ModuleType("trackio")
    module.TRACKIO_DIR, module.SQLiteStorage = tmp_path / "copy", storage
    monkeypatch.setitem(sys.modules, "trackio", module)
    return logged


def test_each_ended_run_is_logged_once(
    tmp_path: Path, study: Study, records: list[Record], fake_trackio: dict[str, dict[str, Any]]
) -> None:
    place: Any = {"output": tmp_path / "copy", "store": tmp_path / "store"}
    first = track(study, to="trackio", **place)
    again = track(study, to="trackio", **place)
    assert str(first).startswith(f"{len(records)} copied, 0 there before; trackio in ")
    assert (again.new, again.there) == (0, len(records))
    assert set(fake_trackio) == {record.run_id for record in records}
    final = next(record for record in records if record.run.stage == "final")
    copy = fake_trackio[final.run_id]
    assert copy["name"].endswith("topics x e5-small x lora, rate 0.001, seed 1 (final)")
    settings = {"learning_rate": 1e-3, "seed": 1, "method/name": "lora", "outcome": "ok"}
    assert settings.items() <= copy["config"].items()
    numbers = copy["metrics_list"][-1]
    assert numbers["test/primary_low"] < numbers["test/primary"] < numbers["test/primary_high"]
    assert numbers["test/n"] == 60 and numbers["wall_seconds/train"] == 12.0
    cost = next(record for record in records if record.run.stage == "cost")
    measured = fake_trackio[cost.run_id]["metrics_list"][-1]
    assert measured["phases/train/peak_bytes"] == 870 * 2**20
    assert not any("energy" in name for name in measured)


def test_a_library_that_is_missing_is_named_with_its_extra(
    tmp_path: Path, study: Study, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    place: Any = {"output": tmp_path / "copy", "store": tmp_path / "store"}
    for name in TRACKERS:
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(TrackerError, match=rf"paretune\[{name}\] has it: pip install {name}"):
            track(study, to=name, **place)  # type: ignore[arg-type]
    with pytest.raises(StudyError, match='has no tracker "tensorboard"'):
        track(study, to="tensorboard", **place)  # type: ignore[arg-type]


def test_what_a_library_refuses_is_told(
    tmp_path: Path, study: Study, records: list[Record], fake_trackio: dict[str, dict[str, Any]]
) -> None:
    with pytest.raises(TrackerError, match="in this process it writes to"):
        track(study, to="trackio", output=tmp_path / "elsewhere", store=tmp_path / "store")


def _read_mlflow(folder: Path, study: str) -> Copies:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name(study).experiment_id])
    assert len({run.data.tags["paretune.identity"] for run in runs}) == len(runs)
    copies: Copies = {}
    for run in runs:
        curve = sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, LOSS))
        copies[run.data.tags["paretune.identity"]] = run.data.params, run.data.metrics, curve
    return copies


def _read_trackio(folder: Path, study: str) -> Copies:
    from trackio import SQLiteStorage

    copies: Copies = {}
    for run in SQLiteStorage.get_run_records(study):
        *curve, numbers = SQLiteStorage.get_logs(study, run["name"], run_id=run["id"])
        losses = [(point["step"], point[LOSS]) for point in curve]
        settings = SQLiteStorage.get_run_config(study, run["name"], run_id=run["id"])
        copies[run["id"]] = settings, numbers, losses
    return copies


LOSS = "curve/loss"
READERS: dict[str, Callable[[Path, str], Copies]] = {
    "mlflow": _read_mlflow,
    "trackio": _read_trackio,
}


def skip_without(tracker: str) -> None:
    """Without an import: trackio reads its folder once, when it is imported."""
    if find_spec(tracker) is None:
        pytest.skip(f"needs {tracker}: pip install {tracker}")


@pytest.mark.parametrize("tracker", READERS)
def test_what_a_library_has_is_what_the_store_holds(
    tmp_path: Path, study: Study, records: list[Record], tracker: Any
) -> None:
    skip_without(tracker)
    place: Any = {"to": tracker, "output": tmp_path / "copy", "store": tmp_path / "store"}
    assert track(study, **place).new == len(records)
    assert track(study, **place).new == 0
    copies = READERS[tracker](tmp_path / "copy", study.study)
    assert set(copies) == {record.run_id for record in records}
    for record in records:
        settings, numbers, curve = copies[record.run_id]
        assert settings["method/name"] == "lora" and float(settings["seed"]) == record.run.seed
        for part, scores in record.result.get("scores", {}).items():
            assert numbers[f"{part}/primary"] == pytest.approx(scores["primary"])
        losses = {point["step"]: point["loss"] for point in record.result.get("curve", ())}
        assert dict(curve) == pytest.approx(losses)


def test_wandb_has_a_folder_for_each_run(
    tmp_path: Path, study: Study, records: list[Record]
) -> None:
    skip_without("wandb")
    place: Any = {"to": "wandb", "output": tmp_path / "copy", "store": tmp_path / "store"}
    assert track(study, **place).new == len(records)
    folders = sorted((tmp_path / "copy" / "wandb").glob("offline-run-*"))
    assert len(folders) == len(records) and all(list(folder.glob("*.wandb")) for folder in folders)
    (folders[0] / "paretune-whole").unlink()  # as if it had been interrupted
    assert track(study, **place).new == 1
    assert len(list((tmp_path / "copy" / "wandb").glob("offline-run-*"))) == len(records)


def test_it_needs_no_torch(tmp_path: Path, study: Study, records: list[Record]) -> None:
    command = ("track", tmp_path / "s.yaml", "--store", tmp_path / "store")
    modules = ("torch", "transformers", "peft")
    words = (*command, "--to", "trackio", "--output", tmp_path / "copy")
    (code,), loaded = list_loaded(words, modules=modules)
    assert code in (0, 9) and loaded == []
