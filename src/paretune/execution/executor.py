"""Executor: what executes the runs of a study, on this machine or on a cluster.

:class:`~paretune.execution.local.LocalExecutor` (worker processes) is one implementation;
:class:`StudyLoop` does what all have in common.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from paretune.execution.progress import Observer, take_snapshot
from paretune.store import RunStatus, Store

POLL_SECONDS = 0.2
"""Pause between two looks at the store, of a worker that waits for a run too."""
LOOK_SHARE = 1 / 20
"""Looks at the store take this share of the time: at thousands of runs one takes longer."""


@dataclass(frozen=True)
class StudySummary:
    """The end of a study.

    Attributes:
        ended: runs that ended while this process watched.
        failed: runs that stopped with an unexpected error.
    """

    total: int
    ended: int
    outcomes: Mapping[str, int]
    failed: tuple[RunStatus, ...]


@dataclass(frozen=True)
class StudyCallbacks:
    """Functions that an executor calls while it executes a study.

    Attributes:
        add_runs: adds the runs that the records make possible to the store; returns how many.
        after_final_runs: called whenever final runs have ended.
        planned_runs: how many runs the study will have in all; 0: not known.
        deadline: end of a time budget by ``time.monotonic``; None: there is none.
    """

    observer: Observer
    add_runs: Callable[[], int]
    after_final_runs: Callable[[], object] = lambda: None
    planned_runs: int = 0
    deadline: float | None = None


class Executor(Protocol):
    """Executes all runs of a study that is saved in a store.

    Other processes open the same store by its ``folder``. These hold for every implementation:

    - It returns when no run is todo or running, here or in another process, and ``add_runs`` adds
      none. It calls ``add_runs`` first when nothing is left to train, and again whenever all runs
      but costs have ended and new results are there.
    - Every run ends exactly once, as done or failed. A run that fails stops no other.
    - Runs that another process holds are waited for, and taken over if it dies.
    - At the ``deadline`` the runs in hand are given back with what they have trained, and it
      returns; the same call continues.
    - ``KeyboardInterrupt``: the runs in hand are given back, then it is raised; the same call
      continues.
    - ``observer.ended`` is called once for every run that ended, also in another process.
    """

    def execute(self, store: Store, study_hash: str, callbacks: StudyCallbacks) -> StudySummary:
        """Execute the runs of a study, and those that ``add_runs`` adds as results come in.

        Raises:
            KeyboardInterrupt: stopped; nothing is lost.
            ParetuneError: no worker can start, or the store cannot be used.
        """


@dataclass
class StudyLoop:
    """Looks at the store until no run of the study is left, as :class:`Executor` promises.

    Attributes:
        stages: runs of other stages are left alone.
        workers: how many work at once, for the progress.
        owner: who would claim what is claimable (:meth:`Store.load_statuses`).
        summary: how the study ended; there after the last look.
    """

    store: Store
    study_hash: str
    callbacks: StudyCallbacks
    stages: Sequence[str]
    workers: int
    owner: str | None = None
    summary: StudySummary = field(init=False)

    def watch(self) -> Iterator[tuple[Sequence[RunStatus], float]]:
        """Look until all has ended, or until the deadline.

        Yields:
            The runs that have not ended, for the executor to start; and for how many seconds it
            then waits, less where there is something to collect, before it asks for the next look.
        """
        created_at = time.time()
        observer = self.callbacks.observer
        ended_before: set[str] = set()
        newly_ended = 0
        expanded_at = finals_at = -1  # numbers of ended runs at the last call back
        while True:
            looked_at = time.monotonic()
            statuses = self.store.load_statuses(self.study_hash, self.owner)
            snapshot = take_snapshot(statuses, self.workers, self.callbacks.planned_runs)
            new = [s for s in statuses if s.ended and s.run_id not in ended_before]
            # Also after the first look: a study that has changed reuses runs of an earlier one.
            newly = [s for s in new if s.ended_at is not None and s.ended_at >= created_at]
            if earlier := len(new) - len(newly):
                observer.note(f"{earlier} of {snapshot.total} runs are done already.")
            for status in newly:
                observer.ended(status, snapshot)
            newly_ended += len(newly)
            ended_before = {status.run_id for status in statuses if status.ended}
            observer.update(snapshot)
            seconds = max(POLL_SECONDS, (time.monotonic() - looked_at) / LOOK_SHARE)
            finals = sum(status.ended for status in statuses if status.stage == "final")
            if finals != finals_at:
                self.callbacks.after_final_runs()
                finals_at = finals
            waiting = [s for s in statuses if s.stage in self.stages and not s.ended]
            to_train = [s for s in waiting if s.stage != "cost"]
            if len(ended_before) != expanded_at and all(s.state != "todo" for s in to_train):
                self.callbacks.add_runs()
                # The statuses are read again before anything is concluded from them: another
                # process may have added the same runs first.
                expanded_at = len(ended_before)
                continue
            deadline = self.callbacks.deadline
            if not waiting or (deadline is not None and time.monotonic() >= deadline):
                break
            yield waiting, seconds
        self.summary = StudySummary(
            total=len(statuses),
            ended=newly_ended,
            outcomes=dict(Counter(s.outcome or "ok" for s in statuses if s.ended)),
            failed=tuple(s for s in statuses if s.state == "failed" and s.outcome == "error"),
        )


def stop_gently(
    note: Callable[[str], None],
    request_stop: Callable[[], None],
    wait: Callable[[], None],
    kill: Callable[[], None],
) -> None:
    """Let workers save their runs and end; a second interrupt kills them."""

    def say(text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal or the pipe may be gone
            note(text)

    try:
        request_stop()
        say("Stopping: workers save their runs (Ctrl-C again kills them at once).")
        wait()
    except KeyboardInterrupt:
        kill()
        say("Killed: their runs go on from the last checkpoint.")
    say("Stopped. Nothing is lost: the same command continues.")
