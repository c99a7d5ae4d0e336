"""Drives a study on this machine: worker processes train, then each cost is measured alone.

The parent imports no torch and executes nothing; it starts workers, watches the store, asks for
more runs when those there are have ended, and replaces workers that die.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from paretune.execution.fleet_claims import DEFAULT_FLEET_SIZE, FleetLimits
from paretune.execution.memory_budget import MemoryBudget
from paretune.execution.progress.observer import Observer, take_snapshot
from paretune.execution.signals import interrupt_on_signals
from paretune.execution.worker_crashes import WorkerCrashes
from paretune.execution.worker_pool import WORKER, WorkerPool
from paretune.measuring.processor import count_usable_cores
from paretune.store import RunStatus, Store
from paretune.study import DEFAULT_COST_SECONDS

POLL_SECONDS = 0.2
STAGES = ("tune", "final", "cost")


@dataclass(frozen=True)
class StudySummary:
    """How a study ended. ``outcomes`` counts its ended runs by outcome; ``seconds``: wall clock.

    ``ended`` counts the runs that ended while this process watched; ``failed`` are those that
    stopped with an unexpected error.
    """

    total: int
    ended: int
    outcomes: Mapping[str, int]
    failed: tuple[RunStatus, ...]
    seconds: float


@interrupt_on_signals()
def run_study(
    store: Store,
    study_hash: str,
    *,
    workers: int,
    threads: int,
    observer: Observer,
    expand: Callable[[], int],
    stages: Sequence[str] = STAGES,
    device: str = "cpu",
    planned: int = 0,
    command: Sequence[str] = WORKER,
    lease_seconds: float = 60.0,
    fleet: int | None = 1,
    memory_bytes: int | None = None,
    cost_seconds: float = DEFAULT_COST_SECONDS,
    keep_bytes: int | None = None,
    tidy: Callable[[], object] = lambda: None,
) -> StudySummary:
    """Execute all runs of a study, and those that ``expand`` asks for as results come in.

    Returns when no run is todo or running, here or in another process, and ``expand`` adds none.
    Runs that another process holds are waited for, and taken over if it dies.

    Args:
        store: with the study saved in it.
        study_hash: the study.
        workers: worker processes that train at the same time.
        threads: threads of each; a cost run is measured with all processors of the machine.
        observer: told how it goes on.
        expand: adds the runs that the records make possible, and returns how many are new.
        stages: only runs of these stages.
        device: of the workers: ``cpu``, ``cuda``, ``cuda:1`` ...
        planned: how many runs the study will have in all; 0: unknown.
        command: starts a worker.
        lease_seconds: how long a claim outlives a worker that nobody can prove dead.
        fleet: at most so many runs train together in one worker; None: where it pays.
        memory_bytes: what the runs of all workers may take together
        (paretune.execution.memory_budget);
            None: no run waits for memory.
        cost_seconds: for timing the steps of one cost.
        keep_bytes: trained weights up to this size are kept of a run; None: whatever their size.
        tidy: called whenever final runs have ended.

    Raises:
        KeyboardInterrupt: told to stop (paretune.execution.signals), after the workers have given
            their runs back; the same call continues.
        ParetuneError: workers cannot start, or the store cannot be used.
    """
    started = time.monotonic()
    asked = FleetLimits(
        DEFAULT_FLEET_SIZE if fleet is None else fleet, workers, even_if_slower=fleet is not None
    )
    crew = WorkerPool(store.folder, study_hash, device, lease_seconds, command, asked, keep_bytes)
    crew.memory_bytes, crew.cost_seconds = memory_bytes, cost_seconds
    watch = _ProgressWatcher(observer, WorkerCrashes(store, observer.note), workers, planned)
    asked_at = tidied_at = -1
    try:
        while True:
            gone = crew.reap()
            states = store.load_statuses(study_hash)
            if gone:
                watch.losses.handle_exits(gone, states)
                states = store.load_statuses(study_hash)
            watch.look(states)
            ended = sum(state.ended for state in states)
            final = sum(state.ended for state in states if state.stage == "final")
            if final != tidied_at:
                tidy()
                tidied_at = final
            waiting = [s for s in states if s.stage in stages and not s.ended]
            training = [s for s in waiting if s.stage != "cost"]
            if ended != asked_at and all(s.state != "todo" for s in training):
                expand()
                # The states are read again before anything is concluded from them: another
                # process may have added the same runs first.
                asked_at = ended
                continue
            if not waiting:
                break
            _start_workers(crew, store, waiting, stages, workers, threads)
            time.sleep(POLL_SECONDS)
        crew.stop()
    except (KeyboardInterrupt, OSError):  # OSError: nobody reads any more what is told
        _stop_workers(crew, observer)
        raise
    finally:
        crew.kill()
    return watch.summary(states, time.monotonic() - started)


def _start_workers(
    crew: WorkerPool,
    store: Store,
    waiting: Sequence[RunStatus],
    stages: Sequence[str],
    workers: int,
    threads: int,
) -> None:
    """Start the workers that the waiting runs need; those that train go before costs are taken."""
    training = [state for state in waiting if state.stage != "cost"]
    if training:
        needed = workers
        if crew.training_count < workers:
            held = sum(state.owner in crew.owners for state in training)
            needed = min(workers, held + _count_admitted(crew, store, training, workers))
        for _ in range(crew.training_count, needed):
            crew.start([stage for stage in stages if stage != "cost"], threads)
    elif crew.training_count:
        crew.stop()
    elif not crew.owners and any(state.free for state in waiting):
        crew.start(["cost"], count_usable_cores(), solo=True)


def _count_admitted(
    crew: WorkerPool, store: Store, training: Sequence[RunStatus], most: int
) -> int:
    """How many of the free runs may start now, each in a worker of its own; at most ``most``."""
    room, held = MemoryBudget.of(store, crew.memory_bytes), dict[str, list[str]]()
    for state in training:
        if state.state == "running" and not state.free:
            held.setdefault(state.owner or "", []).append(state.run_id)
    running, found = list(held.values()), 0
    for state in training:
        if found < most and state.free and room.admits(state.run_id, running):
            running.append([state.run_id])
            found += 1
    return found


def _stop_workers(crew: WorkerPool, observer: Observer) -> None:
    def tell(text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal or the pipe may be gone
            observer.note(text)

    try:
        crew.request_stop()
        tell("Stopping: workers keep their runs as they are (Ctrl-C again ends them at once).")
        crew.stop()
    except KeyboardInterrupt:
        crew.kill()
        tell("Ended at once: runs in hand go on from their last checkpoint.")
    tell("Stopped. Nothing is lost: the same command continues.")


class _ProgressWatcher:
    """Tells the observer what has changed since the last look."""

    def __init__(
        self, observer: Observer, losses: WorkerCrashes, workers: int, planned: int
    ) -> None:
        self.losses = losses
        self._observer, self._workers, self._planned = observer, workers, planned
        self._before: set[str] | None = None
        self._new = 0

    def look(self, states: Sequence[RunStatus]) -> None:
        ended = {state.run_id for state in states if state.ended}
        snapshot = take_snapshot(states, self._workers, self._planned)
        if self._before is None and ended:
            self._observer.note(f"{len(ended)} of {snapshot.total} runs are done already.")
        elif self._before is not None:
            for state in states:
                if state.run_id in ended - self._before:
                    self._observer.ended(state, snapshot)
                    self.losses.reset_idle_crashes()
                    self._new += 1
        self._before = ended
        self._observer.update(snapshot)

    def summary(self, states: Sequence[RunStatus], seconds: float) -> StudySummary:
        return StudySummary(
            total=len(states),
            ended=self._new,
            outcomes=dict(Counter(state.outcome or "ok" for state in states if state.ended)),
            failed=tuple(s for s in states if s.state == "failed" and s.outcome == "error"),
            seconds=seconds,
        )
