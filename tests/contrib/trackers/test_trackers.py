"""A store mirrored by each tracker's own library, offline, and read back from what it wrote."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support import fake_records as fake
from support.stored_records import stored, study_file
from support.tracker_readers import read

from paretune.analysis.statistics.intervals import confidence_interval
from paretune.analysis.statistics.scores import score_runs
from paretune.contrib.trackers import open_tracker, track
from paretune.contrib.trackers.entry import run_identity
from paretune.contrib.trackers.libraries import TRACKERS
from paretune.errors import StudyError, TrackerError
from paretune.store import Record, Store
from paretune.study import Study

CLOSE = {"tensorboard": 1e-6}
"""TensorBoard keeps float32."""


@pytest.fixture(params=sorted(TRACKERS))
def tracker(request: Any) -> str:
    if find_spec(request.param) is None:  # trackio must not be imported yet
        pytest.skip(f"needs {request.param}: pip install {request.param}")
    return str(request.param)


@pytest.fixture(scope="session")
def only_folder(tmp_path_factory: Any) -> Path:
    """trackio has one folder in a process."""
    return Path(tmp_path_factory.mktemp("trackio"))


@pytest.fixture
def into(tracker: str, tmp_path: Path, only_folder: Path) -> Path:
    return only_folder if tracker == "trackio" else tmp_path / "mirror"


def a_study(name: str) -> Study:
    tasks = [fake.own_task("topics")]
    return fake.study(study=name, tasks=tasks, methods=["lora", "full"])


def its_records(study: Study) -> list[Record]:
    """LoRA whole with its cost; of full one run that stopped with an error."""
    lost = fake.record(
        fake.make_run(study, "final", "full", 1), outcome="error", message="no luck\nat all"
    )
    return [*fake.cell(study, "lora", 0.7), lost]


@pytest.fixture
def stored_study(request: Any, tmp_path: Path) -> Iterator[tuple[Study, list[Record], Store]]:
    study = a_study(request.node.name.replace("[", ".").replace("]", ""))
    records = its_records(study)
    with stored(study, records, tmp_path / "store") as store:
        yield study, records, store


def test_what_is_mirrored_is_what_the_store_holds(
    tracker: str, into: Path, stored_study: tuple[Study, list[Record], Store], tmp_path: Path
) -> None:
    study, records, _ = stored_study
    mirrored = track(study, to=tracker, output=into, store=tmp_path / "store")
    assert (mirrored.new, mirrored.there) == (len(records) + 1, 0)  # the cell of LoRA too
    entries_by_id = read(tracker, into, study.study)
    assert all(len(entries) == 1 for entries in entries_by_id.values())
    assert set(entries_by_id) >= {run_identity(record) for record in records}
    near = CLOSE.get(tracker, 1e-12)

    final = next(r for r in records if r.run.stage == "final" and r.state == "done")
    (entry,) = entries_by_id[final.run_id]
    settings = {"learning_rate": 1e-3, "seed": 1, "method": "lora", "training/batch_size": 16}
    for name, value in settings.items():
        assert entry.settings[name] in (value, str(value))
    interval = confidence_interval(score_runs([final.predictions["test"]], "accuracy"))
    numbers = {
        "test/primary": interval.estimate,
        "test/primary_low": interval.low,
        "test/primary_high": interval.high,
        "test/examples": 60,
        "test/seeds": 1,
        "measured/wall_seconds/train": 12.0,
        "result/trained_parameters": 296_067,
    }
    for name, value in numbers.items():
        assert entry.numbers[name] == pytest.approx(value, rel=near), name
    losses = [(point["step"], point["loss"]) for point in final.result["curve"]]
    assert [step for step, _ in entry.curve["curve/loss"]] == [step for step, _ in losses]
    assert [v for _, v in entry.curve["curve/loss"]] == pytest.approx(
        [v for _, v in losses], rel=near
    )

    (cost,) = entries_by_id[next(r for r in records if r.run.stage == "cost").run_id]
    assert cost.numbers["measured/phases/train/peak_bytes"] == 870 * 2**20
    assert "NVML lists no process" in cost.texts["not measured"]

    (failed,) = entries_by_id[run_identity(records[-1])]
    assert failed.texts["message"] == "no luck\nat all" and failed.texts["outcome"] == "error"
    assert not any(name.startswith("test/") for name in failed.numbers)

    (cell,) = next(e for name, e in entries_by_id.items() if name.startswith("cell-"))
    whole = confidence_interval(
        score_runs([r.predictions["test"] for r in records if "test" in r.predictions], "accuracy")
    )
    assert (cell.numbers["score/seeds"], cell.numbers["score/examples"]) == (3, 60)
    assert cell.numbers["score/estimate"] == pytest.approx(whole.estimate, rel=near)
    ends = [cell.numbers[f"score/interval_{end}"] for end in ("low", "high")]
    assert ends == pytest.approx([whole.low, whole.high], rel=near)


def test_again_adds_what_is_new_and_nothing_twice(
    tracker: str, into: Path, stored_study: tuple[Study, list[Record], Store], tmp_path: Path
) -> None:
    study, _, store = stored_study
    before = [*store._db.iterdump()]
    first = track(study, to=tracker, output=into, store=tmp_path / "store")
    again = track(study, to=tracker, output=into, store=tmp_path / "store")
    assert (again.new, again.there) == (0, first.new)
    assert [*store._db.iterdump()] == before
    run = fake.make_run(study, "final", "full", 2)
    store.add_runs(study.study_hash, [("later", run)])
    claim = store.claim("test", study.study_hash)
    assert claim is not None
    store.finish(claim, {"outcome": "diverged"}, {}, {})
    later = track(study, to=tracker, output=into, store=tmp_path / "store")
    assert (later.new, later.there) == (1, first.new)
    entries_by_id = read(tracker, into, study.study)
    assert len(entries_by_id) == first.new + 1 and all(
        len(same) == 1 for same in entries_by_id.values()
    )


def test_a_mirror_that_broke_off_is_mended(
    tracker: str, into: Path, stored_study: tuple[Study, list[Record], Store], tmp_path: Path
) -> None:
    study, records, _ = stored_study
    first = track(study, to=tracker, output=into, store=tmp_path / "store")
    _BREAK[tracker](into, study.study, records[0].run_id)
    mended = track(study, to=tracker, output=into, store=tmp_path / "store")
    assert (mended.new, mended.there) == (1, first.new - 1)
    entries_by_id = read(tracker, into, study.study)
    assert len(entries_by_id) == first.new and all(
        len(same) == 1 for same in entries_by_id.values()
    )


def _half_a_folder(into: Path, study: str, identity: str) -> None:
    (whole,) = (into / study).glob(f"*/*/*/*_{identity}")
    whole.rename(whole.with_name(f".part-{identity}"))


def _no_mark(into: Path, study: str, identity: str) -> None:
    (folder,) = (into / "wandb").glob(f"offline-run-*-{identity}")
    (folder / "paretune-whole").unlink()


def _still_running(into: Path, study: str, identity: str) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{into / 'mlflow.db'}")
    place = client.get_experiment_by_name(study).experiment_id
    (run,) = client.search_runs([place], f"tags.`paretune.identity` = '{identity}'")
    client.update_run(run.info.run_id, "RUNNING")


def _no_metadata(into: Path, study: str, identity: str) -> None:
    from trackio import SQLiteStorage

    SQLiteStorage.set_project_metadata(study, f"paretune/{identity}", "")


_BREAK: dict[str, Callable[[Path, str, str], None]] = {
    "tensorboard": _half_a_folder,
    "wandb": _no_mark,
    "mlflow": _still_running,
    "trackio": _no_metadata,
}


def test_a_retried_run_is_another_entry_than_its_error(
    tracker: str, into: Path, stored_study: tuple[Study, list[Record], Store], tmp_path: Path
) -> None:
    study, _, store = stored_study
    track(study, to=tracker, output=into, store=tmp_path / "store")
    assert store.retry(study.study_hash) == 1
    claim = store.claim("test", study.study_hash)
    assert claim is not None
    store.finish(claim, {"outcome": "ok", "steps": 3}, {}, {})
    assert track(study, to=tracker, output=into, store=tmp_path / "store").new == 1
    entries_by_id = read(tracker, into, study.study)
    assert {claim.run_id, f"{claim.run_id}-error"} <= set(entries_by_id)


def test_a_library_that_is_not_there_is_named_with_its_extra(
    monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr("paretune.contrib.trackers.find_spec", lambda name: None)
    for name in TRACKERS:
        with pytest.raises(TrackerError, match=rf"pip install {name}"):
            open_tracker(name, str(tmp_path), "study")


def test_a_folder_called_like_a_library_is_no_library(monkeypatch: Any, tmp_path: Path) -> None:
    (tmp_path / "a_tracker").mkdir()  # as W&B leaves one called wandb where it ran
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("paretune.contrib.trackers.libraries.TRACKERS", {"a_tracker": None})
    with pytest.raises(TrackerError, match="the package a_tracker is not installed"):
        open_tracker("a_tracker", str(tmp_path), "study")


def test_a_place_that_cannot_be_used_is_said(tracker: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TrackerError, match="cannot be written"):
        open_tracker(tracker, str(tmp_path / "file"), "study")
    if tracker != "mlflow":
        with pytest.raises(StudyError, match="mirrored into a folder"):
            open_tracker(tracker, "http://127.0.0.1:9", "study")
    shutil.rmtree(tmp_path)


def test_what_trackio_refuses_is_told(only_folder: Path, tmp_path: Path) -> None:
    if find_spec("trackio") is None:
        pytest.skip("needs trackio: pip install trackio")
    reserved = a_study("registry-of-mine")
    stored(reserved, its_records(reserved), tmp_path / "store").close()
    with pytest.raises(TrackerError, match="reserved for trackio"):
        track(reserved, to="trackio", output=only_folder, store=tmp_path / "store")


GUARD = """
import socket, sys
real, resolve = socket.socket.connect, socket.getaddrinfo
def outside(host):
    print('OUTSIDE', host)
    raise OSError('the test lets nobody out')
def connect(self, address):
    if isinstance(address, tuple) and not str(address[0]).startswith(('127.', '::1')):
        outside(address[0])
    return real(self, address)
def getaddrinfo(host, *arguments, **options):
    if host not in (None, 'localhost', '127.0.0.1', '::1', socket.gethostname()):
        outside(host)
    return resolve(host, *arguments, **options)
socket.socket.connect, socket.getaddrinfo = connect, getaddrinfo
"""
PARETUNE = "import runpy; runpy.run_module('paretune', run_name='__main__')"


def guarded(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python code in a process of its own that nobody leaves, as at a user's.

    Libraries are more discreet where they see a test or CI, so it inherits neither.
    """
    plain = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "PYTHONPATH")}
    command_line = [sys.executable, "-c", f"{GUARD}\n{code}", *arguments]
    return subprocess.run(command_line, capture_output=True, text=True, env=plain)


def test_the_guard_sees_who_wants_out() -> None:
    for address in ("('example.invalid', 80)", "('192.0.2.1', 80)"):
        out = guarded(f"socket.create_connection({address}, 1)")
        assert "OUTSIDE" in out.stdout and "lets nobody out" in out.stderr


def test_nobody_outside_is_asked_for(tracker: str, tmp_path: Path) -> None:
    """What W&B's own process does is not seen."""
    study = study_file(a_study("silent"), tmp_path / "s.yaml")
    with stored(study, its_records(study), tmp_path / "store"):
        arguments = ["track", str(tmp_path / "s.yaml"), "--store", str(tmp_path / "store")]
        arguments += ["--to", tracker, "--output", str(tmp_path / "mirror")]
        out = guarded(PARETUNE, *arguments)
    assert out.returncode == 0, out.stderr
    assert "OUTSIDE" not in out.stdout and "mirrored, 0 there before" in out.stdout
