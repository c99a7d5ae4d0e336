"""The contract of an :class:`~paretune.execution.executor.Executor`, as tests.

The runs are baselines without a model on forty rows, so that a test takes a few seconds.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from paretune.execution.executor import Executor, StudyCallbacks
from paretune.execution.progress import Observer, Snapshot
from paretune.store import RunStatus, Store
from paretune.study import NO_MODEL, MethodSpec, Run, TaskSpec
from support.tiny_runs import STUDY, a_store
from support.tiny_study import two_files


class RecordingObserver(Observer):
    """Keeps all its arguments."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []
        self.ended_runs: list[str] = []
        self.notes: list[str] = []

    def update(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)

    def ended(self, status: RunStatus, snapshot: Snapshot) -> None:
        self.ended_runs.append(status.run_id)

    def note(self, text: str) -> None:
        self.notes.append(text)


class ExecutorContract:
    """What every executor does. An implementation overrides :meth:`executor`."""

    def executor(self) -> Executor:
        """The executor under test."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        """A store with a study and no runs."""
        two_files(tmp_path)
        return a_store(tmp_path / "store")

    def make_run(self, store: Store, method: str = "majority", train: str = "train.csv") -> Run:
        """A baseline on the data beside the store."""
        folder = store.folder.parent
        files = {"train": str(folder / train), "test": str(folder / "test.csv")}
        return Run(
            stage="final",
            task=TaskSpec(name="words", kind="classification", text="text", label="label", **files),
            model=NO_MODEL,
            method=MethodSpec(name=method),
            learning_rate=None,
            seed=1,
        )

    def test_every_run_ends_once_and_the_same_call_again_does_nothing(self, store: Store) -> None:
        """One of them is held by a process that is gone: it is waited for and taken over."""
        store.add_runs(STUDY, [("majority", self.make_run(store))])
        store.add_runs(STUDY, [("tfidf", self.make_run(store, "tfidf"))])
        store.claim("elsewhere", STUDY, lease_seconds=1.0)
        observer = RecordingObserver()
        callbacks = StudyCallbacks(observer, add_runs=lambda: 0)
        summary = self.executor().execute(store, STUDY, callbacks)
        records = store.load_records(STUDY)
        assert [record.run_id for record in records] == ["majority", "tfidf"]
        assert {record.state for record in records} == {"done"}
        assert [status.attempt for status in store.load_statuses(STUDY)] == [2, 1]
        assert (summary.total, summary.ended, summary.failed) == (2, 2, ())
        assert sum(summary.outcomes.values()) == 2
        assert sorted(observer.ended_runs) == ["majority", "tfidf"]
        assert observer.snapshots[-1].ended == 2
        again = self.executor().execute(store, STUDY, callbacks)
        assert again.ended == 0 and store.load_records(STUDY) == records

    def test_runs_are_added_as_results_come_in_and_a_failure_stops_no_other(
        self, store: Store
    ) -> None:
        calls = {"add_runs": 0, "after_final_runs": 0}
        following = [("broken", "majority", "missing.csv"), ("last", "tfidf", "train.csv")]

        def add_runs() -> int:
            calls["add_runs"] += 1
            statuses = store.load_statuses(STUDY)
            if not statuses:
                return store.add_runs(STUDY, [("first", self.make_run(store))])
            if any(not status.ended for status in statuses):
                return 0
            runs = [
                (name, self.make_run(store, method, train)) for name, method, train in following
            ]
            return store.add_runs(STUDY, runs)

        def after_final_runs() -> None:
            calls["after_final_runs"] += 1

        callbacks = StudyCallbacks(RecordingObserver(), add_runs, after_final_runs)
        summary = self.executor().execute(store, STUDY, callbacks)
        first, broken, last = store.load_records(STUDY)
        assert (first.state, broken.state, last.state) == ("done", "failed", "done")
        assert broken.outcome == "error" and "missing.csv" in str(broken.message)
        assert [status.run_id for status in summary.failed] == ["broken"]
        assert calls["add_runs"] >= 3 and calls["after_final_runs"] >= 1
