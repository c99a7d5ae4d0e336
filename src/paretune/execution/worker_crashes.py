"""A worker died: was it memory, was it the run's fault, and may the run be tried again?"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from paretune.errors import DeviceLostError, ParetuneError, StoreError
from paretune.execution.claims import fail_run
from paretune.execution.memory_budget import HALVE_PREFIX, ISOLATED_PREFIX
from paretune.execution.progress import describe_run
from paretune.execution.signals import KILL_SIGNAL
from paretune.measuring.processor import CGROUP, CGROUP_ROOT, list_cgroup_folders
from paretune.store import Claim, RunStatus, Store
from paretune.terminal.plural import pluralise

MAX_CRASHES = 3
"""So many crashes fail a run, or the study where no run is to blame."""


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


@dataclass
class WorkerCrashes:
    """Counts the crashes of one parent's workers, and decides what becomes of their runs.

    Kills for memory are kept in the store. A run that was killed beside others is not to blame: it
    runs in isolation from then on (:mod:`paretune.execution.memory_budget`). The micro-batch of one
    that was alone is halved (setting ``halve/RUN_ID``). Crashes for another reason count only while
    the run gets no further between them: killing the worker of a long run now and then loses
    nothing. A worker that ends without an error and has taken nothing counts as a crash too.
    """

    store: Store
    note: Callable[[str], None]
    _oom_kills: int = field(default_factory=lambda: count_oom_kills())
    _crashes: dict[str, tuple[int, int]] = field(default_factory=dict)
    _claims: int | None = None
    _ended: int = 0
    _idle_crashes: int = 0

    def handle_exits(self, exits: Sequence[WorkerExit], statuses: Sequence[RunStatus]) -> None:
        """Draw the consequences of workers' exits; ``statuses`` as of after them.

        Raises:
            ParetuneError: workers die again and again before they have a run.
            StoreError: the worker ended because the store cannot be used.
        """
        kills_before, self._oom_kills = self._oom_kills, count_oom_kills()
        claims_before, self._claims = self._claims, sum(status.attempt for status in statuses)
        ended_before, self._ended = self._ended, sum(status.ended for status in statuses)
        if self._ended > ended_before:  # crashes without a run are counted from none again
            self._idle_crashes = 0
        running = [status for status in statuses if status.state == "running"]
        for worker_exit in exits:
            in_hand = [status for status in running if status.owner == worker_exit.owner]
            if worker_exit.code == StoreError.exit_code:
                lines = worker_exit.output.splitlines() or ["a worker cannot use the store."]
                raise StoreError(lines[-1].removeprefix("worker: "))
            if worker_exit.code == DeviceLostError.exit_code:
                self.note("A CUDA error left a worker without its GPU; another one goes on.")
            elif worker_exit.code == 0:
                # A cost waits until no other run is running; other runs wait for a worker alone.
                busy = any(not status.is_claimable for status in running)
                could_start = any(
                    s.is_claimable and (s.stage != "cost" or not busy) for s in statuses
                )
                if self._claims == claims_before and could_start:
                    self._handle_idle_crash(worker_exit)
            elif worker_exit.code != 130 and not in_hand:
                self._handle_idle_crash(worker_exit)
            elif worker_exit.code != 130:
                self.blame(
                    in_hand,
                    f"{worker_exit.reason}\n{worker_exit.output}".rstrip(),
                    out_of_memory=worker_exit.code == -KILL_SIGNAL
                    and self._oom_kills > kills_before,
                    neighbours=len(running) - 1,
                )

    def blame(
        self, in_hand: Sequence[RunStatus], how: str, *, out_of_memory: bool, neighbours: int
    ) -> None:
        """Decide how the runs of a worker that died go on.

        Args:
            how: the worker ended; below the first line, what it had printed.
            out_of_memory: the system ended it for lack of memory.
            neighbours: how many runs there were beside these.
        """
        for status in in_hand:
            which = describe_run(status.run)
            if not out_of_memory:
                crashes, furthest = self._crashes.get(status.run_id, (0, -1))
                step = int(status.progress.get("step", 0))
                crashes = 1 if step > furthest else crashes + 1
                self._crashes[status.run_id] = crashes, max(step, furthest)
                if crashes < MAX_CRASHES:
                    reason = how.partition("\n")[0]
                    self.note(f"{which}: its worker ended by {reason}; retrying.")
                    continue
                message = f"its worker ended {crashes} times at the same place, by {how}"
                self._fail(status, "error", message)
            elif neighbours:
                self.store.set_setting(f"{ISOLATED_PREFIX}{status.run_id}", str(neighbours))
                self.note(
                    f"{which}: its worker was killed by the system for lack of "
                    f"memory, beside {pluralise(neighbours, 'other run')}; it goes on unchanged, "
                    "with nothing beside it."
                )
            else:
                key = f"{HALVE_PREFIX}{status.run_id}"
                kills = int(self.store.get_setting(key) or 0) + 1
                if kills >= MAX_CRASHES:
                    message = f"the system killed it for lack of memory {kills} times"
                    self._fail(status, "out_of_memory", message)
                    continue
                self.store.set_setting(key, str(kills))
                times = "once" if kills == 1 else "twice"
                self.note(
                    f"{which}: its worker was killed by the system for lack of memory, with "
                    f"nothing beside it; it goes on with its micro-batch halved {times}."
                )

    def _handle_idle_crash(self, worker_exit: WorkerExit) -> None:
        self._idle_crashes += 1
        if self._idle_crashes >= MAX_CRASHES:
            raise ParetuneError(
                f"workers end before they take a run ({worker_exit.reason}), "
                f"{MAX_CRASHES} times:\n{worker_exit.output}",
                remedy="paretune doctor shows what this machine has.",
            )

    def _fail(self, status: RunStatus, kind: str, message: str) -> None:
        claim = Claim(
            status.run,
            self.store.checkpoint_path(status.run_id),
            run_id=status.run_id,
            owner=status.owner or "",
            attempt=status.attempt,
        )
        fail_run(self.store, claim, kind, message, {}, self.note)


def count_oom_kills(
    vmstat: Path = Path("/proc/vmstat"), cgroup: Path = CGROUP, root: Path = CGROUP_ROOT
) -> int:
    """How many processes the kernel has killed for memory, as far as this process can see.

    The machine's counter (``/proc/vmstat``) and those of the control groups around this process, of
    version 2 (``memory.events``) and 1 (``memory.oom_control``). Only a rise means anything; always
    0 where there is none (not Linux).
    """
    kills = 0
    folders = list_cgroup_folders("memory", cgroup, root)
    names = ("memory.events", "memory.oom_control")
    for file in (vmstat, *(folder / name for folder in folders for name in names)):
        with suppress(OSError):
            lines = file.read_text(encoding="utf-8").splitlines()
            kills += sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return kills
