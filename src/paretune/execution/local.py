"""Executes a study on this machine: worker processes train, then each cost is measured alone.

Costs are measured on one device, the first that is named, while workers of other devices go on; on
a CPU nothing goes on.
The parent imports no torch and executes nothing; it starts workers, watches the store, asks for
more runs when the known ones have ended, and replaces workers that die.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from paretune.execution.executor import StudyCallbacks, StudyLoop, StudySummary, stop_gently
from paretune.execution.fork_server import ForkedProcess, ForkServer, can_fork
from paretune.execution.memory_budget import MemoryBudget
from paretune.execution.signals import KILL_SIGNAL, REPEAT_SECONDS, interrupt_on_signals
from paretune.execution.worker_crashes import WorkerCrashes, WorkerExit
from paretune.execution.worker_settings import WorkerSettings
from paretune.measuring.devices import identify_device
from paretune.measuring.processor import count_usable_cores
from paretune.owner import current_owner, owner_of, place_of
from paretune.store import RunStatus, Store

WORKER = (sys.executable, "-m", "paretune.execution.worker")
_TAIL_BYTES = 4000


@dataclass(frozen=True)
class _WorkerProcess:
    process: subprocess.Popen[bytes] | ForkedProcess
    owner: str
    settings: WorkerSettings
    log: IO[bytes]

    def is_on(self, device: str | None) -> bool:
        return device in (None, self.settings.device)


@dataclass
class WorkerPool:
    """The workers of one parent, on one study. They print into files that only we read."""

    folder: Path
    study_hash: str
    command: Sequence[str] = WORKER
    server: ForkServer | None = None
    workers: list[_WorkerProcess] = field(default_factory=list, init=False)
    _stop_requested: set[str] = field(default_factory=set, init=False)

    def start(self, settings: WorkerSettings) -> None:
        """Start a worker that ends with this process."""
        log = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the worker is reaped)
        process: subprocess.Popen[bytes] | ForkedProcess
        if can_fork(settings.device):
            if self.server is None or self.server.code is not None:
                self.server = ForkServer(self.command)
            settings = replace(settings, parent=self.server.pid)
            arguments = [str(self.folder), self.study_hash, settings.to_json()]
            process = self.server.start(arguments, log)
        else:
            settings = replace(settings, parent=os.getpid())
            process = subprocess.Popen(  # noqa: S603 (our own module, by the same interpreter)
                [*self.command, str(self.folder), self.study_hash, settings.to_json()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the parent alone, which stops them gently
            )
        owner = owner_of(process.pid, identify_device(settings.device))
        self.workers.append(_WorkerProcess(process, owner, settings, log))

    def reap(self) -> list[WorkerExit]:
        """Workers that have ended since the last call, other than those that were asked to."""
        exits = []
        for worker in list(self.workers):
            code = worker.process.poll()
            if code is not None:
                self.workers.remove(worker)
                with worker.log as log:
                    log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
                    output = log.read().decode(errors="replace").strip()
                if worker.owner not in self._stop_requested:
                    exits.append(WorkerExit(worker.owner, code, output))
        return exits

    def wait(self, seconds: float) -> None:
        """Wait until a worker that was forked has ended, but no longer than this."""
        if self.server is None or self.server.code is not None:
            time.sleep(seconds)
        else:
            self.server.wait(seconds)

    def request_stop(self, device: str | None = None) -> None:
        """Ask all to stop, or those on this device.

        Each is asked once: a second signal would come while it saves its runs.
        """
        for worker in self.workers:
            if worker.is_on(device) and worker.owner not in self._stop_requested:
                self._stop_requested.add(worker.owner)
                worker.process.send_signal(signal.SIGTERM)

    def stop(self, device: str | None = None) -> None:
        """Ask all to stop, or those on this device, and wait.

        The runs in hand are saved and given back.
        """
        self.request_stop(device)
        for worker in self.workers:
            if not worker.is_on(device):
                continue
            while True:
                try:
                    worker.process.wait(REPEAT_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    worker.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill all; their runs are claimable as soon as they are gone."""
        for worker in self.workers:
            worker.process.send_signal(KILL_SIGNAL)
        for worker in self.workers:
            worker.process.wait()
        self.reap()
        if self.server is not None:
            self.server.close()


@dataclass(frozen=True)
class LocalExecutor:
    """Worker processes on this machine; see :class:`~paretune.execution.executor.Executor`.

    Attributes:
        devices: the settings of the workers of each device, ``device_workers`` of which train on it
            at the same time. Costs are measured on the first.
        server: forks the workers of a CPU; None: one is started with the first of them.
    """

    devices: Sequence[WorkerSettings]
    command: Sequence[str] = WORKER
    server: ForkServer | None = None

    @interrupt_on_signals()
    def execute(self, store: Store, study_hash: str, callbacks: StudyCallbacks) -> StudySummary:
        """See :class:`~paretune.execution.executor.Executor`."""
        observer = callbacks.observer
        pool = WorkerPool(store.folder, study_hash, self.command, self.server)
        measurer = current_owner(identify_device(self.devices[0].device))
        crashes = WorkerCrashes(store, observer.note)
        stages, count = self.devices[0].stages, self.worker_count
        loop = StudyLoop(store, study_hash, callbacks, stages, count, measurer)
        try:
            for waiting, seconds in loop.watch():
                self._start_workers(pool, store, waiting)
                pool.wait(seconds)
                if exits := pool.reap():
                    crashes.handle_exits(exits, store.load_statuses(study_hash, measurer))
            pool.stop()
        except (KeyboardInterrupt, OSError):  # OSError: nobody reads any more what is printed
            stop_gently(observer.note, pool.request_stop, pool.stop, pool.kill)
            raise
        finally:
            pool.kill()
        return loop.summary

    @property
    def worker_count(self) -> int:
        """Workers that train at the same time, on all devices."""
        return sum(settings.device_workers for settings in self.devices)

    def _start_workers(self, pool: WorkerPool, store: Store, waiting: Sequence[RunStatus]) -> None:
        """Start the workers that the waiting runs need; training goes before costs."""
        training = [worker for worker in pool.workers if worker.settings.stages != ("cost",)]
        to_train = [status for status in waiting if status.stage != "cost"]
        if not to_train and training:
            pool.stop()
            return
        first = self.devices[0]
        trainable = any(status.is_claimable for status in to_train)
        measurable = any(s.is_claimable for s in waiting if s.stage == "cost")
        measures = len(training) < len(pool.workers)
        if measurable and not trainable and not measures:
            # Its other workers have nothing in hand: otherwise no cost could be claimed.
            pool.stop(first.device)
            threads = count_usable_cores()
            pool.start(replace(first, stages=("cost",), threads=threads, limit=1))
            measures = True
        stages = tuple(stage for stage in first.stages if stage != "cost")
        admitted: set[str] = set()  # runs for which a worker is started
        for settings in self.devices:
            if measures and settings is first:
                continue
            owners = {worker.owner for worker in training if worker.is_on(settings.device)}
            count = settings.device_workers
            if len(owners) < count:
                # Each claimable run that may start here now needs a worker of its own.
                budget = MemoryBudget.load(store, settings.memory_bytes)
                here = place_of(current_owner(identify_device(settings.device)))
                running = [
                    status.run_id
                    for status in to_train
                    if status.state == "running"
                    and not status.is_claimable
                    and place_of(status.owner or "") in (here, None)
                ]
                fitting = 0
                for status in to_train:
                    may_start = status.is_claimable and status.run_id not in admitted
                    if fitting < count and may_start and budget.admits(status.run_id, running):
                        running.append(status.run_id)
                        admitted.add(status.run_id)
                        fitting += 1
                busy = sum(status.owner in owners for status in to_train)
                count = min(count, busy + fitting)
            for _ in range(len(owners), count):
                pool.start(replace(settings, stages=stages, workers=self.worker_count, wait=True))
