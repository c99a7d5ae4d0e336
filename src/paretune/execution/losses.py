"""A worker died: was it memory, was it the run's fault, and may the run be tried again?"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from paretune.errors import DeviceLostError, ParetuneError, StaleClaimError, StoreError
from paretune.execution.crew import Ended
from paretune.execution.oom import oom_kills
from paretune.execution.room import BY_ITSELF
from paretune.execution.wording import described
from paretune.store import Claim, RunState, Store

PATIENCE = 3
"""So many deaths end a run, or the study where no run is to blame."""


@dataclass
class Losses:
    """What this parent knows of its workers' deaths.

    Deaths for memory are kept in the store. A run that died beside others has no fault of its own:
    it goes on by itself (:mod:`paretune.execution.room`). One that was alone is halved
    (``halve/RUN_ID``: how often its micro-batch is).
    Deaths for another reason count only as long as the run gets no further between them: who kills
    a worker of a long run now and then loses nothing.
    """

    store: Store
    note: Callable[[str], None]
    _oom_kills: int = field(default_factory=lambda: oom_kills())
    _deaths: dict[str, tuple[int, int]] = field(default_factory=dict)
    _blank: int = 0

    def account(self, gone: Sequence[Ended], states: Sequence[RunState]) -> None:
        """Draw the consequences of the ends of workers; ``states`` as of after them.

        Raises:
            ParetuneError: workers die again and again before they have a run.
            StoreError: the worker ended because the store cannot be used.
        """
        seen, self._oom_kills = self._oom_kills, oom_kills()
        for ended in gone:
            self._account(ended, states, for_memory=self._oom_kills > seen)

    def _account(self, ended: Ended, states: Sequence[RunState], *, for_memory: bool) -> None:
        if ended.code in (0, 130):
            return
        if ended.code == StoreError.exit_code:
            raise StoreError(f"a worker cannot use the store:\n{ended.said}")
        if ended.code == DeviceLostError.exit_code:
            self.note("A CUDA error left a worker without its GPU; another one goes on.")
            return
        held = [s for s in states if s.state == "running" and s.owner == ended.owner]
        if not held:
            self._without_a_run(ended)
        # Of a fleet any run may be the cause: what follows is drawn for all.
        beside = sum(s.state == "running" for s in states) - 1
        for state in held:
            if ended.code == -signal.SIGKILL and for_memory and beside:
                self._crowded(state, beside)
            elif ended.code == -signal.SIGKILL and for_memory:
                self._for_memory(state)
            else:
                self._otherwise(state, ended)

    def run_ended(self) -> None:
        """Workers do work: deaths without a run start from none again."""
        self._blank = 0

    def _without_a_run(self, ended: Ended) -> None:
        self._blank += 1
        if self._blank >= PATIENCE:
            raise ParetuneError(
                f"workers end before they take a run ({ended.how}):\n{ended.said}",
                remedy="paretune doctor shows what this machine has.",
            )

    def _crowded(self, state: RunState, beside: int) -> None:
        self.store.set_setting(f"{BY_ITSELF}{state.run_id}", str(beside))
        others = f"{beside} other run{'s' * (beside != 1)}"
        self.note(
            f"{described(state.run)}: its worker was killed by the system for want of memory, "
            f"beside {others}; it goes on with nothing beside it, as it was."
        )

    def _for_memory(self, state: RunState) -> None:
        kills = int(self.store.setting(f"halve/{state.run_id}") or 0) + 1
        if kills >= PATIENCE:
            message = f"the system killed it for want of memory {kills} times"
            self._fail(state, "out_of_memory", message)
            return
        self.store.set_setting(f"halve/{state.run_id}", str(kills))
        times = "once" if kills == 1 else "twice"
        self.note(
            f"{described(state.run)}: its worker was killed by the system for want of memory, "
            f"with nothing beside it; it goes on with its micro-batch halved {times}."
        )

    def _otherwise(self, state: RunState, ended: Ended) -> None:
        deaths, furthest = self._deaths.get(state.run_id, (0, -1))
        step = int(state.progress.get("step", 0))
        deaths = 1 if step > furthest else deaths + 1
        self._deaths[state.run_id] = deaths, max(step, furthest)
        if deaths < PATIENCE:
            self.note(
                f"{described(state.run)}: its worker ended by {ended.how}; it is tried again."
            )
            return
        said = f"\n{ended.said}" if ended.said else ""
        message = f"its worker ended {deaths} times at the same place, by {ended.how}{said}"
        self._fail(state, "error", message)

    def _fail(self, state: RunState, kind: str, message: str) -> None:
        claim = Claim(state.run_id, state.run, state.owner or "", state.attempt, 0.0)
        try:
            self.store.fail(claim, kind, message, {})
        except StaleClaimError:
            self.note(f"{described(state.run)}: another process has taken it over.")
