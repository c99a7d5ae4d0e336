"""Worker processes as their parent sees them: started, watched, stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from paretune.execution.costs.fork_server import can_fork
from paretune.execution.run_executor import NO_FLEETS, FleetLimits
from paretune.execution.signals import REPEAT_SECONDS
from paretune.measuring.devices import identify_device
from paretune.owner import owner_of
from paretune.study import DEFAULT_COST_SECONDS

WORKER = (sys.executable, "-m", "paretune.execution.worker_process")
_TAIL_BYTES = 4000


@dataclass(frozen=True)
class WorkerSettings:
    """What every worker on one device is started with.

    Attributes:
        keep_bytes: of a run's trained weights, None for all.
        memory_bytes: for the runs of all workers on the device together; None: unlimited.
        cost_seconds: for timing the steps of one cost.
    """

    device: str = "cpu"
    lease_seconds: float = 60.0
    fleets: FleetLimits = NO_FLEETS
    keep_bytes: int | None = None
    memory_bytes: int | None = None
    cost_seconds: float = DEFAULT_COST_SECONDS
    command: Sequence[str] = WORKER

    def arguments(self, *, solo: bool) -> list[str]:
        """Arguments of the worker's command line; ``solo``: it measures costs, one a process."""
        arguments = ["--device", self.device, "--lease", str(self.lease_seconds)]
        if self.keep_bytes is not None:
            arguments += ["--keep", str(self.keep_bytes)]
        if self.memory_bytes is not None:
            arguments += ["--memory", str(self.memory_bytes)]
        if solo:
            arguments += ["--cost-seconds", str(self.cost_seconds)]
            return [*arguments, *(["--apart"] if can_fork(self.device) else ["--limit", "1"])]
        fleets = self.fleets
        arguments += ["--wait", "--fleet", str(fleets.max_runs), "--workers", str(fleets.workers)]
        if fleets.device_workers is not None:
            arguments += ["--device-workers", str(fleets.device_workers)]
        return [*arguments, *(["--always"] if fleets.even_if_slower else [])]


@dataclass(frozen=True)
class WorkerExit:
    """A worker that has ended.

    Attributes:
        code: as subprocess has it: negative for a signal.
    """

    owner: str
    code: int
    output: str

    @property
    def reason(self) -> str:
        """``signal SIGKILL`` or ``exit code 3``."""
        if self.code >= 0:
            return f"exit code {self.code}"
        try:
            return f"signal {signal.Signals(-self.code).name}"
        except ValueError:
            return f"signal {-self.code}"


@dataclass(frozen=True)
class _Worker:
    process: subprocess.Popen[bytes]
    owner: str
    device: str
    log: IO[bytes]
    solo: bool


@dataclass
class WorkerPool:
    """The workers of one parent, on one study. They print into files that only we read."""

    folder: Path
    study_hash: str
    _workers: list[_Worker] = field(default_factory=list, init=False)
    _stop_requested: set[str] = field(default_factory=set, init=False)

    def owners_on(self, device: str) -> set[str]:
        """Owner strings of the workers of one device."""
        return {worker.owner for worker in self._workers if worker.device == device}

    @property
    def is_measuring(self) -> bool:
        """Whether one of the workers measures costs."""
        return any(worker.solo for worker in self._workers)

    def count_training(self, device: str | None = None) -> int:
        """Number of workers that train, as against the one that measures costs; on this device."""
        return sum(not worker.solo and device in (None, worker.device) for worker in self._workers)

    def start(
        self, settings: WorkerSettings, stages: Sequence[str], threads: int, *, solo: bool = False
    ) -> None:
        """Start a worker; ``solo``: for costs, each in a process that has seen no other run."""
        arguments = [str(self.folder), self.study_hash, "--stages", ",".join(stages)]
        arguments += ["--threads", str(threads), "--parent", str(os.getpid())]
        arguments += settings.arguments(solo=solo)
        log = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the worker is reaped)
        process = subprocess.Popen(  # noqa: S603 (our own module, by the same interpreter)
            [*settings.command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which stops them gently
        )
        owner = owner_of(process.pid, identify_device(settings.device))
        self._workers.append(_Worker(process, owner, settings.device, log, solo))

    def reap(self, device: str | None = None) -> list[WorkerExit]:
        """Workers that have ended since the last call; of this device."""
        exits = []
        for worker in list(self._workers):
            if device not in (None, worker.device):
                continue
            code = worker.process.poll()
            if code is not None:
                self._workers.remove(worker)
                with worker.log as log:
                    log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
                    output = log.read().decode(errors="replace").strip()
                exits.append(WorkerExit(worker.owner, code, output))
        return exits

    def request_stop(self, device: str | None = None) -> None:
        """Ask all to stop, or those on this device.

        Each is asked once: a second signal would come while it saves its runs.
        """
        for worker in self._workers:
            if device in (None, worker.device) and worker.owner not in self._stop_requested:
                self._stop_requested.add(worker.owner)
                worker.process.terminate()

    def stop(self, device: str | None = None) -> None:
        """Ask all to stop, or those on this device, and wait.

        The runs in hand are saved and given back.
        """
        self.request_stop(device)
        for worker in self._workers:
            if device not in (None, worker.device):
                continue
            while True:
                try:
                    worker.process.wait(REPEAT_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    worker.process.terminate()
        self.reap(device)

    def kill(self) -> None:
        """Kill all; their runs are claimable as soon as they are gone."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.wait()
        self.reap()
