"""What a node does with an assignment: a worker on a small store of its own, in a local folder.

A second thread sends what that store has: progress, checkpoints, and each run as soon as it ends.
So the worker of a cluster is the worker of one machine, and only its owner writes to the study's
store.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from paretune.errors import DeviceLostError, ParetuneError
from paretune.execution.cluster.assignment import (
    Assignment,
    Checkpoint,
    Done,
    Event,
    Failed,
    Learned,
    Progress,
    check_identity,
    check_models,
    write_inputs,
)
from paretune.execution.local import WorkerPool
from paretune.execution.memory_budget import NO_FLEET_PREFIXES
from paretune.execution.run_executor import RunExecutor, make_executor
from paretune.execution.signals import StopRequest
from paretune.execution.worker import limit_threads, run_worker
from paretune.execution.worker_settings import WorkerSettings
from paretune.measuring.processor import count_usable_cores
from paretune.owner import is_tag_of_dead_owner, owner_tag
from paretune.store import Record, Store
from paretune.store.blobs import RESULT_BLOBS
from paretune.study import Run
from paretune.training.caches import ProcessCache
from paretune.training.runs.outcome import Outcome

Post = Callable[[Sequence[Event]], bool]
"""Sends events to the owner of the store; returns whether the task is to stop."""

STUDY = "assignment"
LOOK_SECONDS = 0.5
_FOLDERS = "paretune-nodes"

_executors: dict[WorkerSettings, RunExecutor] = {}
"""By what they were made with: a process that executes several tasks keeps its model."""
_caches = ProcessCache()
_checked: set[tuple[object, ...]] = set()
"""What this process has found to be the same here."""


def execute_assignment(
    assignment: Assignment, post: Post, executor: RunExecutor | None = None
) -> str | None:
    """Execute the runs of an assignment in this process, a cost in one of its own.

    Args:
        executor: in place of training, for tests.

    Returns:
        Why no run can be executed here; None where all that was to be done was done.
    """
    limit_threads(assignment.settings.threads)
    try:
        _check_version(assignment)
        with _open_folder() as folder:
            runs = _place_inputs(folder.parent, assignment)
            if assignment.contents and executor is None:
                _check_inputs(assignment, runs)
            _fill_store(folder, assignment, runs)
            stop = StopRequest()
            with _Reporter(folder, assignment, post, stop):
                if assignment.measures_cost and executor is None:
                    _measure_cost(folder, assignment.settings, stop)
                else:
                    _train(folder, assignment.settings, stop, executor)
    except DeviceLostError:
        return None  # this process ends with its task, and the runs go on in another one
    except ParetuneError as error:
        return str(error)
    return None


def _check_version(assignment: Assignment) -> None:
    """Check that this node has the same paretune.

    Raises:
        ParetuneError: it has another.
    """
    if version("paretune") != assignment.version:
        raise ParetuneError(
            f"has paretune {version('paretune')}, and the study runs with {assignment.version}.",
            remedy="Install the same version on every node.",
        )


@contextlib.contextmanager
def _open_folder() -> Iterator[Path]:
    """A folder on this node's own disk; what killed processes left is removed."""
    folders = Path(tempfile.gettempdir()) / f"{_FOLDERS}-{os.getuid()}"
    folders.mkdir(mode=0o700, exist_ok=True)
    for old in folders.iterdir():
        if is_tag_of_dead_owner(old.name.partition(".")[0]):
            shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{owner_tag()}.", dir=folders) as folder:
        yield Path(folder)


def _place_inputs(folders: Path, assignment: Assignment) -> dict[str, Run]:
    """The runs, reading the files that came with them; this process keeps those until it ends."""
    if not assignment.contents:
        return dict(assignment.runs)
    folder = folders / f"{owner_tag()}.inputs"
    if not folder.exists():
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_inputs(assignment.contents, folder)
    return {i: assignment.inputs.relocate(run, folder) for i, run in assignment.runs.items()}


def _check_inputs(assignment: Assignment, runs: Mapping[str, Run]) -> None:
    """Check that this node has the same models and code: one run of each cell and stage.

    Raises:
        ParetuneError: a model is missing or has other files, or a run would be another one here.
    """
    check_models(assignment.inputs, _caches)
    for run_id, run in runs.items():
        key = (*run.cell, run.stage, run.readout, run.outer is None)
        if key not in _checked:
            check_identity([(run_id, run)], _caches)
            _checked.add(key)


def _fill_store(folder: Path, assignment: Assignment, runs: Mapping[str, Run]) -> None:
    with Store.open(folder, create=True) as store:
        store.save_study(STUDY, STUDY, "", {"study": STUDY})
        store.add_runs(STUDY, runs.items())
        store.set_settings(assignment.stored_settings)
        for run_id, content in assignment.checkpoints.items():
            store.checkpoint_path(run_id).write_bytes(content)


def _train(
    folder: Path, settings: WorkerSettings, stop: StopRequest, executor: RunExecutor | None
) -> None:
    if executor is None and settings not in _executors:
        _executors[settings] = make_executor(settings)
    with Store.open(folder) as store:
        run_worker(store, STUDY, executor or _executors[settings], stop, settings)


def _measure_cost(folder: Path, settings: WorkerSettings, stop: StopRequest) -> None:
    """Measure in a process that has done nothing else, as on one machine.

    Raises:
        RuntimeError: it ended otherwise than by itself or by a stop.
    """
    pool = WorkerPool(folder, STUDY)
    pool.start(replace(settings, stages=("cost",), limit=1, threads=count_usable_cores()))
    try:
        while not (exits := pool.reap()):
            if stop.requested:
                pool.request_stop()
            time.sleep(LOOK_SECONDS)
    finally:
        pool.kill()
    (ended,) = exits
    if ended.code not in (0, 130) and not stop.requested:  # a signal may come before it is handled
        raise RuntimeError(
            f"the process that measures a cost ended by {ended.reason}:\n{ended.output}"
        )


class _Reporter:
    """Sends what the small store has, from a thread of its own; a context manager."""

    def __init__(self, folder: Path, assignment: Assignment, post: Post, stop: StopRequest) -> None:
        self._folder, self._assignment = folder, assignment
        self._post, self._stop = post, stop
        self._ended: set[str] = set()
        self._progress: dict[str, Any] = {}
        self._settings = dict(assignment.stored_settings)
        self._sent = dict.fromkeys(assignment.runs, 0.0)  # when each checkpoint was written
        self._error: BaseException | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._report, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _report(self) -> None:
        try:
            with Store.open(self._folder) as store:
                for run_id in self._assignment.checkpoints:
                    self._sent[run_id] = _modified(store.checkpoint_path(run_id))
                while not self._over.wait(LOOK_SECONDS):
                    self._send(store, self._assignment.settings.checkpoint_seconds)
                self._send(store, 0.0)
        except BaseException as error:  # noqa: BLE001 (raised again where the task ends)
            self._error = error
            self._stop.request()

    def _send(self, store: Store, checkpoint_seconds: float) -> None:
        events = [*self._look(store), *self._read_checkpoints(store, checkpoint_seconds)]
        if self._post(events):
            self._stop.request()

    def _look(self, store: Store) -> Iterator[Event]:
        for prefix in NO_FLEET_PREFIXES:
            for run_id, value in store.get_settings(prefix).items():
                if self._settings.get(key := f"{prefix}{run_id}") != value:
                    self._settings[key] = value
                    yield Learned(key, value)
        statuses = store.load_statuses(STUDY)
        if any(status.ended and status.run_id not in self._ended for status in statuses):
            for record in store.load_records(STUDY):
                if record.run_id not in self._ended:
                    self._ended.add(record.run_id)
                    yield _describe_end(store, record)
        for status in statuses:
            progress = dict(status.progress)
            if (
                not status.ended
                and "step" in progress
                and progress != self._progress.get(status.run_id)
            ):
                self._progress[status.run_id] = progress
                yield Progress(status.run_id, progress)

    def _read_checkpoints(self, store: Store, seconds: float) -> Iterator[Checkpoint]:
        for run_id in self._sent.keys() - self._ended:
            path = store.checkpoint_path(run_id)
            written = _modified(path)
            if written - self._sent[run_id] >= max(seconds, 1e-9):
                with contextlib.suppress(FileNotFoundError):  # the run has just ended
                    yield Checkpoint(run_id, path.read_bytes())
                    self._sent[run_id] = written


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _describe_end(store: Store, record: Record) -> Done | Failed:
    if record.state == "failed":
        kind, message = record.fail_kind or "error", record.message or ""
        return Failed(record.run_id, kind, message, dict(record.measured))
    result: dict[str, Any] = dict(record.result)
    blobs = {n: store.read_blob(result.pop(n)) for n in RESULT_BLOBS if n in result}
    return Done(record.run_id, Outcome(result, dict(record.measured), blobs))
