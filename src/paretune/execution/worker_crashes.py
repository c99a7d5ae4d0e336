"""A worker died: was it memory, was it the run's fault, and may the run be tried again?"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from paretune.errors import DeviceLostError, ParetuneError, StaleClaimError, StoreError
from paretune.execution.memory_budget import ISOLATED_PREFIX
from paretune.execution.oom_killer import count_oom_kills
from paretune.execution.progress.describe import describe_run
from paretune.execution.worker_pool import WorkerExit
from paretune.store import Claim, RunStatus, Store

MAX_CRASHES = 3
"""So many deaths end a run, or the study where no run is to blame."""


@dataclass
class WorkerCrashes:
    """What this parent knows of its workers' deaths.

    Deaths for memory are kept in the store. A run that died beside others has no fault of its own:
    it goes on by itself (:mod:`paretune.execution.memory_budget`). One that was alone is halved
    (``halve/RUN_ID``: how often its micro-batch is).
    Deaths for another reason count only as long as the run gets no further between them: who kills
    a worker of a long run now and then loses nothing.
    """

    store: Store
    note: Callable[[str], None]
    _oom_kills: int = field(default_factory=lambda: count_oom_kills())
    _crashes: dict[str, tuple[int, int]] = field(default_factory=dict)
    _idle_crashes: int = 0

    def handle_exits(self, gone: Sequence[WorkerExit], states: Sequence[RunStatus]) -> None:
        """Draw the consequences of the ends of workers; ``states`` as of after them.

        Raises:
            ParetuneError: workers die again and again before they have a run.
            StoreError: the worker ended because the store cannot be used.
        """
        seen, self._oom_kills = self._oom_kills, count_oom_kills()
        for ended in gone:
            self._handle_exit(ended, states, for_memory=self._oom_kills > seen)

    def _handle_exit(
        self, ended: WorkerExit, states: Sequence[RunStatus], *, for_memory: bool
    ) -> None:
        if ended.code in (0, 130):
            return
        if ended.code == StoreError.exit_code:
            raise StoreError(f"a worker cannot use the store:\n{ended.said}")
        if ended.code == DeviceLostError.exit_code:
            self.note("A CUDA error left a worker without its GPU; another one goes on.")
            return
        held = [s for s in states if s.state == "running" and s.owner == ended.owner]
        if not held:
            self._handle_idle_crash(ended)
        # Of a fleet any run may be the cause: what follows is drawn for all.
        beside = sum(s.state == "running" for s in states) - 1
        for state in held:
            if ended.code == -signal.SIGKILL and for_memory and beside:
                self._isolate(state, beside)
            elif ended.code == -signal.SIGKILL and for_memory:
                self._halve_micro_batch(state)
            else:
                self._retry_or_fail(state, ended)

    def reset_idle_crashes(self) -> None:
        """Workers do work: deaths without a run start from none again."""
        self._idle_crashes = 0

    def _handle_idle_crash(self, ended: WorkerExit) -> None:
        self._idle_crashes += 1
        if self._idle_crashes >= MAX_CRASHES:
            raise ParetuneError(
                f"workers end before they take a run ({ended.how}):\n{ended.said}",
                remedy="paretune doctor shows what this machine has.",
            )

    def _isolate(self, state: RunStatus, beside: int) -> None:
        self.store.set_setting(f"{ISOLATED_PREFIX}{state.run_id}", str(beside))
        others = f"{beside} other run{'s' * (beside != 1)}"
        self.note(
            f"{describe_run(state.run)}: its worker was killed by the system for want of memory, "
            f"beside {others}; it goes on with nothing beside it, as it was."
        )

    def _halve_micro_batch(self, state: RunStatus) -> None:
        kills = int(self.store.get_setting(f"halve/{state.run_id}") or 0) + 1
        if kills >= MAX_CRASHES:
            message = f"the system killed it for want of memory {kills} times"
            self._fail(state, "out_of_memory", message)
            return
        self.store.set_setting(f"halve/{state.run_id}", str(kills))
        times = "once" if kills == 1 else "twice"
        self.note(
            f"{describe_run(state.run)}: its worker was killed by the system for want of memory, "
            f"with nothing beside it; it goes on with its micro-batch halved {times}."
        )

    def _retry_or_fail(self, state: RunStatus, ended: WorkerExit) -> None:
        deaths, furthest = self._crashes.get(state.run_id, (0, -1))
        step = int(state.progress.get("step", 0))
        deaths = 1 if step > furthest else deaths + 1
        self._crashes[state.run_id] = deaths, max(step, furthest)
        if deaths < MAX_CRASHES:
            self.note(
                f"{describe_run(state.run)}: its worker ended by {ended.how}; it is tried again."
            )
            return
        said = f"\n{ended.said}" if ended.said else ""
        message = f"its worker ended {deaths} times at the same place, by {ended.how}{said}"
        self._fail(state, "error", message)

    def _fail(self, state: RunStatus, kind: str, message: str) -> None:
        claim = Claim(state.run_id, state.run, state.owner or "", state.attempt, 0.0)
        try:
            self.store.fail(claim, kind, message, {})
        except StaleClaimError:
            self.note(f"{describe_run(state.run)}: another process has taken it over.")
