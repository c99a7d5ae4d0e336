"""Worker processes as their parent sees them: started, watched, stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from paretune.execution.signals import REPEAT_SECONDS
from paretune.execution.worker_settings import WorkerSettings
from paretune.measuring.devices import identify_device
from paretune.owner import owner_of

WORKER = (sys.executable, "-m", "paretune.execution.worker")
_TAIL_BYTES = 4000


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
    settings: WorkerSettings
    log: IO[bytes]

    @property
    def measures(self) -> bool:
        return self.settings.stages == ("cost",)

    def is_on(self, device: str | None) -> bool:
        return device in (None, self.settings.device)


@dataclass
class WorkerPool:
    """The workers of one parent, on one study. They print into files that only we read."""

    folder: Path
    study_hash: str
    command: Sequence[str] = WORKER
    _workers: list[_Worker] = field(default_factory=list, init=False)
    _stop_requested: set[str] = field(default_factory=set, init=False)

    def owners_on(self, device: str) -> set[str]:
        """Owner strings of the workers of one device."""
        return {worker.owner for worker in self._workers if worker.is_on(device)}

    @property
    def is_measuring(self) -> bool:
        """Whether one of the workers measures costs."""
        return any(worker.measures for worker in self._workers)

    def count_training(self, device: str | None = None) -> int:
        """Number of workers that train, as against the one that measures costs; on this device."""
        return sum(not worker.measures and worker.is_on(device) for worker in self._workers)

    def start(self, settings: WorkerSettings) -> None:
        """Start a worker that ends with this process."""
        settings = replace(settings, parent=os.getpid())
        arguments = [str(self.folder), self.study_hash, settings.to_json()]
        log = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the worker is reaped)
        process = subprocess.Popen(  # noqa: S603 (our own module, by the same interpreter)
            [*self.command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which stops them gently
        )
        owner = owner_of(process.pid, identify_device(settings.device))
        self._workers.append(_Worker(process, owner, settings, log))

    def reap(self, device: str | None = None) -> list[WorkerExit]:
        """Workers that have ended since the last call; of this device."""
        exits = []
        for worker in list(self._workers):
            if not worker.is_on(device):
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
            if worker.is_on(device) and worker.owner not in self._stop_requested:
                self._stop_requested.add(worker.owner)
                worker.process.terminate()

    def stop(self, device: str | None = None) -> None:
        """Ask all to stop, or those on this device, and wait.

        The runs in hand are saved and given back.
        """
        self.request_stop(device)
        for worker in self._workers:
            if not worker.is_on(device):
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
