"""The loop of an executor: watch the store, ask for more runs, start what executes them."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from paretune.execution.executor import StudyCallbacks, StudySummary, do_nothing
from paretune.execution.memory_budget import MEMORY_PREFIX
from paretune.execution.progress import Snapshot, take_snapshot
from paretune.store import Record, RunStatus, Storage

if TYPE_CHECKING:
    from paretune.planning.predicted_cost import CostPredictor
    from paretune.planning.prepare import PreparedStudy
    from paretune.search.expand import PlannedRun

    Expand = Callable[[PreparedStudy, Sequence[Record]], list[PlannedRun]]

POLL_SECONDS = 0.2
"""Pause between two looks at the store, of a worker that waits for a run too."""
LOOK_SHARE = 1 / 20
"""Of the time, for looks at the store: a look at thousands of runs takes longer than others."""


def add_missing_runs(
    prepared: PreparedStudy,
    store: Storage,
    predictor: CostPredictor | None = None,
    expand: Expand | None = None,
) -> int:
    """Add the runs that the study asks for and the store does not have; return how many are new.

    Args:
        predictor: predicts the memory that each needs, from what has ended so far.
        expand: which runs; by default all.
    """
    from paretune.planning.predicted_cost import worker_bytes
    from paretune.search.expand import expand_study

    study = prepared.study
    # With data and model where they are now: a moved study was stored with other paths.
    records = [
        replace(record, run=study.relocate(record.run))
        for record in store.load_records(study.study_hash, predictions=True)
    ]
    if predictor is not None:
        predictor.fit(records)  # before `expand`, which may ask how long runs take
    planned = (expand or expand_study)(prepared, records)
    if predictor is not None:
        ended = {record.run_id for record in records}
        to_train = [p for p in planned if p.run_id not in ended and p.run.stage != "cost"]
        needs = {p.run_id: worker_bytes(predictor.predict_peak_bytes(p.run)) for p in to_train}
        store.set_settings({f"{MEMORY_PREFIX}{key}": str(size) for key, size in needs.items()})
    return store.add_runs(study.study_hash, [(p.run_id, p.run) for p in planned])


@dataclass
class StudyLoop:
    """Goes on until no run of the study is left, as :class:`~paretune.execution.executor.Executor`
    promises.

    Attributes:
        stages: runs of other stages are left alone.
        workers: how many work at once, for the progress.
        run_ended: called for every run that ended while this loop watched.
        owner: who would claim what is claimable (:meth:`Storage.load_statuses`).
    """

    store: Storage
    study_hash: str
    callbacks: StudyCallbacks
    stages: Sequence[str]
    workers: int
    run_ended: Callable[[], None] = do_nothing
    owner: str | None = None
    _ended_before: set[str] | None = field(default=None, init=False)
    _newly_ended: int = field(default=0, init=False)
    _seconds_left: float | None = field(default=None, init=False)
    _estimate_again_at: float = field(default=0.0, init=False)
    _begun: float = field(default_factory=time.monotonic, init=False)

    def run(
        self, collect: Callable[[], None], start: Callable[[Sequence[RunStatus]], None]
    ) -> StudySummary:
        """Watch until all has ended, or until the deadline.

        Args:
            collect: takes in what has ended since the last call; called before every look.
            start: given the runs that have not ended, starts what executes them.
        """
        expanded_at = finals_at = -1  # numbers of ended runs at the last call back
        while True:
            collect()
            begun = time.monotonic()
            statuses = self.store.load_statuses(self.study_hash, self.owner)
            pause = max(POLL_SECONDS, (time.monotonic() - begun) / LOOK_SHARE)
            self._look(statuses)
            ended = sum(status.ended for status in statuses)
            finals = sum(status.ended for status in statuses if status.stage == "final")
            if finals != finals_at:
                self.callbacks.after_final_runs()
                finals_at = finals
            waiting = [s for s in statuses if s.stage in self.stages and not s.ended]
            to_train = [s for s in waiting if s.stage != "cost"]
            if ended != expanded_at and all(s.state != "todo" for s in to_train):
                self.callbacks.add_runs()
                # The statuses are read again before anything is concluded from them: another
                # process may have added the same runs first.
                expanded_at = ended
                continue
            deadline = self.callbacks.deadline
            is_late = deadline is not None and time.monotonic() >= deadline
            if not waiting or is_late:
                return self._summarise(statuses)
            start(waiting)
            time.sleep(pause)

    def _look(self, statuses: Sequence[RunStatus]) -> None:
        """Tell the observer what has changed since the last look."""
        observer = self.callbacks.observer
        ended = {status.run_id for status in statuses if status.ended}
        newly = () if self._ended_before is None else ended - self._ended_before
        snapshot = self._take_snapshot(statuses)
        if self._ended_before is None and ended:
            observer.note(f"{len(ended)} of {snapshot.total} runs are done already.")
        elif newly:
            for status in statuses:
                if status.run_id in newly:
                    observer.ended(status, snapshot)
                    self.run_ended()
                    self._newly_ended += 1
        self._ended_before = ended
        observer.update(snapshot)

    def _take_snapshot(self, statuses: Sequence[RunStatus]) -> Snapshot:
        """The study now; its time left is estimated in a twentieth of the time at most."""
        begun = time.monotonic()
        again = begun >= self._estimate_again_at
        known = None if again else self._seconds_left
        snapshot = take_snapshot(statuses, self.workers, self.callbacks.planned_runs, known)
        if again:
            self._seconds_left = snapshot.seconds_left
            now = time.monotonic()
            self._estimate_again_at = now + 20 * (now - begun)
        return snapshot

    def _summarise(self, statuses: Sequence[RunStatus]) -> StudySummary:
        return StudySummary(
            total=len(statuses),
            ended=self._newly_ended,
            outcomes=dict(Counter(s.outcome or "ok" for s in statuses if s.ended)),
            failed=tuple(s for s in statuses if s.state == "failed" and s.outcome == "error"),
            seconds=time.monotonic() - self._begun,
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
