"""Worker processes as their parent sees them: started, watched, asked to stop."""

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

from paretune.execution.costs import fork_server
from paretune.execution.fleet_claims import NO_FLEETS, FleetLimits
from paretune.execution.signals import REPEAT_SECONDS
from paretune.store.owner import owner_of
from paretune.study import DEFAULT_COST_SECONDS

WORKER = (sys.executable, "-m", "paretune.execution.worker")
_TAIL_BYTES = 4000


@dataclass(frozen=True)
class WorkerExit:
    """A worker that is gone. ``code`` as subprocess has it: negative for a signal."""

    owner: str
    code: int
    said: str

    @property
    def how(self) -> str:
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
    log: IO[bytes]
    solo: bool


@dataclass
class WorkerPool:
    """The workers of one parent, on one study. They print into files that only we read."""

    folder: Path
    study_hash: str
    device: str
    lease_seconds: float
    command: Sequence[str] = WORKER
    asked: FleetLimits = NO_FLEETS
    keep_bytes: int | None = None
    memory_bytes: int | None = None
    cost_seconds: float = DEFAULT_COST_SECONDS
    _workers: list[_Worker] = field(default_factory=list)
    _stop_requested: set[str] = field(default_factory=set, init=False)

    @property
    def owners(self) -> set[str]:
        """Owner strings of the workers that have not been reaped."""
        return {worker.owner for worker in self._workers}

    @property
    def training_count(self) -> int:
        """How many workers train, as against the one that measures alone."""
        return sum(not worker.solo for worker in self._workers)

    def start(self, stages: Sequence[str], threads: int, *, solo: bool = False) -> None:
        """Start a worker; ``solo``: for runs that each have a process that has seen no other."""
        arguments = [str(self.folder), self.study_hash, "--stages", ",".join(stages)]
        arguments += ["--threads", str(threads), "--device", self.device]
        arguments += ["--lease", str(self.lease_seconds), "--parent", str(os.getpid())]
        if self.keep_bytes is not None:
            arguments += ["--keep", str(self.keep_bytes)]
        fleet = ["--fleet", str(self.asked.max_runs), "--workers", str(self.asked.workers)]
        fleet += ["--always"] if self.asked.even_if_slower else []
        if self.memory_bytes is not None:
            arguments += ["--memory", str(self.memory_bytes)]
        arguments += ["--cost-seconds", str(self.cost_seconds)] if solo else []
        alone = ["--apart"] if fork_server.can_fork(self.device) else ["--limit", "1"]
        arguments += alone if solo else ["--wait", *fleet]
        log = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the worker is reaped)
        process = subprocess.Popen(  # noqa: S603 (our own module, by the same interpreter)
            [*self.command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which stops them gently
        )
        self._workers.append(_Worker(process, owner_of(process.pid), log, solo))

    def reap(self) -> list[WorkerExit]:
        """Workers that have ended since the last call."""
        ended = []
        for worker in list(self._workers):
            code = worker.process.poll()
            if code is not None:
                self._workers.remove(worker)
                with worker.log as log:
                    log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
                    said = log.read().decode(errors="replace").strip()
                ended.append(WorkerExit(worker.owner, code, said))
        return ended

    def request_stop(self) -> None:
        """Ask all to stop, each once: a second signal would come while it keeps its runs."""
        for worker in self._workers:
            if worker.owner not in self._stop_requested:
                self._stop_requested.add(worker.owner)
                worker.process.terminate()

    def stop(self) -> None:
        """Ask all to stop, and wait: runs in hand are kept as they are and given back."""
        self.request_stop()
        for worker in self._workers:
            while True:
                try:
                    worker.process.wait(REPEAT_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    worker.process.terminate()
        self.reap()

    def kill(self) -> None:
        """End all at once; their runs are free as soon as they are gone."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.wait()
        self.reap()
