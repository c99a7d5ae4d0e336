"""What a node does with an assignment: a worker whose store is the channel to its owner.

So the worker of a cluster is the worker of one machine, and only its owner writes to the study's
store. Checkpoints and the files that came with the runs lie in a folder on the node's own disk.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self, cast

from paretune.errors import DeviceLostError, ModelError, ParetuneError, StudyError
from paretune.execution.cluster.executor import Assignment, RunEvent
from paretune.execution.signals import StopRequest
from paretune.execution.worker import RunExecutor, limit_threads, make_executor, run_worker
from paretune.execution.worker_settings import WorkerSettings
from paretune.files import write_atomically
from paretune.measuring.processor import count_usable_cores
from paretune.owner import is_tag_of_dead_owner, owner_tag
from paretune.store import Claim, Record, Store
from paretune.store.store import Matches
from paretune.study import NO_MODEL, Run
from paretune.training import Outcome
from paretune.training.caches import ProcessCache

Post = Callable[[Sequence[RunEvent]], bool]
"""Sends events to the owner of the store; returns whether the task is to stop."""

_FOLDERS = "paretune-nodes"
_executors: dict[WorkerSettings, RunExecutor] = {}
"""By what they were made with: a process that executes several tasks keeps its model."""
_caches = ProcessCache()
_checked: set[tuple[object, ...]] = set()
"""What this process has found to be the same here."""


def execute_assignment(
    assignment: Assignment, post: Post, executor: RunExecutor | None = None
) -> str | None:
    """Execute the runs of an assignment in this process.

    Args:
        executor: in place of training, for tests.

    Returns:
        Why no run can be executed here; None where all that was to be done was done.
    """
    settings = assignment.settings
    if assignment.measures_cost:
        settings = replace(settings, threads=count_usable_cores())
    limit_threads(settings.threads)
    try:
        if version("paretune") != assignment.version:
            raise ParetuneError(
                f"has paretune {version('paretune')}, and the study runs with "
                f"{assignment.version}.",
                remedy="Install the same version on every node.",
            )
        with _open_folder() as folder:
            runs = _place_inputs(folder.parent, assignment)
            if assignment.contents and executor is None:
                _check_inputs(assignment, runs)
            if executor is None and settings not in _executors:
                _executors[settings] = make_executor(settings)
            storage = TaskStorage(assignment, runs, folder, post)
            # It does what a worker asks of a store, and no more.
            store = cast("Store", storage)
            run_worker(store, "", executor or _executors[settings], storage.stop, settings)
    except DeviceLostError:
        return None  # this process ends with its task, and the runs go on in another one
    except ParetuneError as error:
        return str(error)
    return None


@dataclass
class TaskStorage:
    """Hands out the runs of an assignment, and sends what is written.

    It has those methods of :class:`~paretune.store.Store` that a worker calls. ``stop``: requested
    as soon as the owner of the store, asked at each event, says so.
    """

    assignment: Assignment
    runs: Mapping[str, Run]
    folder: Path
    post: Post
    stop: StopRequest = field(default_factory=StopRequest)
    _settings: dict[str, str] = field(init=False)
    _unclaimed: list[str] = field(init=False)
    _checkpoint_times: dict[str, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._settings = dict(self.assignment.stored_settings)
        self._unclaimed = list(self.runs)
        for run_id, content in self.assignment.checkpoints.items():
            write_atomically(self.checkpoint_path(run_id), content)
            self._checkpoint_times[run_id] = self.checkpoint_path(run_id).stat().st_mtime

    def claim(self, owner: str, *_: Any, **__: Any) -> Claim | None:
        """The next run."""
        return self._take(self._unclaimed[0], owner) if self._unclaimed else None

    def claim_matching(
        self, owner: str, study_hash: str, matches: Matches, *, limit: int, **_: Any
    ) -> list[Claim]:
        """The next runs that match: the owner has left the other workers their part."""
        matching = [run_id for run_id in self._unclaimed if matches(run_id, self.runs[run_id])]
        return [self._take(run_id, owner) for run_id in matching[:limit]]

    def _take(self, run_id: str, owner: str) -> Claim:
        self._unclaimed.remove(run_id)
        path = self.checkpoint_path(run_id)
        return Claim(self.runs[run_id], path, run_id=run_id, owner=owner)

    def renew(self, claim: Claim, progress: Mapping[str, Any] | None = None) -> None:
        """Send the progress, and the checkpoint where it is time for one."""
        interval = self.assignment.settings.checkpoint_seconds
        checkpoint = self._read_checkpoint(claim.run_id, interval)
        if progress or checkpoint is not None:
            self._send(RunEvent(claim.run_id, progress or {}, checkpoint))
        else:
            self._send()

    def finish(self, claim: Claim, result: Any, measured: Any, blobs: Any) -> None:
        """Send what the run has left."""
        self._send(RunEvent(claim.run_id, outcome=Outcome(result, measured, blobs)))

    def fail(self, claim: Claim, kind: str, message: str, measured: Mapping[str, Any]) -> None:
        """Send why it failed."""
        self._send(RunEvent(claim.run_id, failure=(kind, message, measured)))

    def release(self, claim: Claim) -> bool:
        """Send its newest checkpoint: the owner gives it back when this task has ended."""
        if (checkpoint := self._read_checkpoint(claim.run_id, 0.0)) is not None:
            self._send(RunEvent(claim.run_id, checkpoint=checkpoint))
        return True

    def load_records(self, study_hash: str, predictions: bool = False) -> list[Record]:
        """None: the owner compares a cost with the records of its cell."""
        return []

    def get_setting(self, key: str) -> str | None:
        """A value about a run."""
        return self._settings.get(key)

    def get_settings(self, prefix: str) -> dict[str, str]:
        """The values of all keys that begin with ``prefix``, by the rest of the key."""
        settings = self._settings.items()
        return {key.removeprefix(prefix): v for key, v in settings if key.startswith(prefix)}

    def set_setting(self, key: str, value: str) -> None:
        """Keep a value about a run, whose id ends the key, and send it."""
        self._settings[key] = value
        self._send(RunEvent(key.rpartition("/")[2], settings={key: value}))

    def checkpoint_path(self, run_id: str) -> Path:
        """In the folder of this task."""
        folder = self.folder / "checkpoints"
        folder.mkdir(exist_ok=True)
        return folder / f"{run_id}.safetensors"

    def reopen(self) -> AbstractContextManager[Self]:
        """Itself: events may be sent from any thread."""
        return nullcontext(self)

    def _read_checkpoint(self, run_id: str, interval_seconds: float) -> bytes | None:
        """The checkpoint, where it was written so long after the one that was sent last."""
        path = self.checkpoint_path(run_id)
        with suppress(FileNotFoundError):  # there is none yet
            written = path.stat().st_mtime
            if written - self._checkpoint_times.get(run_id, 0.0) >= max(interval_seconds, 1e-9):
                content = path.read_bytes()
                self._checkpoint_times[run_id] = written
                return content
        return None

    def _send(self, *events: RunEvent) -> None:
        stops = True  # also where nobody answers
        try:
            stops = self.post(events)
        finally:
            if stops:
                self.stop.request()


@contextmanager
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
        folder.mkdir()
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, content in assignment.contents.items():
        if not (folder / name).exists():
            write_atomically(folder / name, content)
    return {i: assignment.inputs.relocate(run, folder) for i, run in assignment.runs.items()}


def _check_inputs(assignment: Assignment, runs: Mapping[str, Run]) -> None:
    """Check that this node has the same models and code: one run of each cell and stage.

    Raises:
        ModelError: a model is missing or has other files.
        StudyError: a run would be another one here.
    """
    for run_id, run in runs.items():
        key = (*run.cell, run.stage, run.readout, run.outer is None)
        if key in _checked:
            continue
        if run.model.name != NO_MODEL.name:
            where = f"model {run.model.name}"
            remedy = "Copy it to every node, under the same name or path."
            planned = assignment.inputs.weights_hashes[run.model]
            try:
                present = _caches.source(run.model).weights_hash
            except ModelError as error:
                what = f"{error.what.rstrip('.')} on this node."
                raise ModelError(what, where=where, remedy=remedy) from error
            if present != planned:
                raise ModelError(
                    f"has other files on this node ({present[:12]}) than where the study was "
                    f"planned ({planned[:12]}).",
                    where=where,
                    remedy=remedy,
                )
        if _caches.identify(run) != run_id:
            raise StudyError(
                "would be another run on this node: its code of the method or its model's "
                "settings differ.",
                where=" x ".join(run.cell),
                remedy="Install the same version of paretune, with the same plug-ins, as where "
                "the study was planned.",
            )
        _checked.add(key)
