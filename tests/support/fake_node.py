"""A Ray task whose runs mean nothing, and a process that hands such tasks out.

``python -m support.fake_node STORE ADDRESS``: the owner of a store, on the cluster at an address.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from paretune.execution.cluster.executor import Assignment, ClusterExecutor, RunEvent
from paretune.execution.cluster.node import Post, execute_assignment
from paretune.execution.executor import StudyCallbacks, StudySummary
from paretune.execution.progress import Observer
from paretune.execution.worker_settings import WorkerSettings
from paretune.store import Store
from support.executors import RecordingObserver
from support.fake_worker import FakeExecutor
from support.tiny_runs import STUDY


def execute(assignment: Assignment, post: Post) -> str | None:
    return execute_assignment(assignment, post, FakeExecutor())


def execute_here(assignment: Assignment) -> list[RunEvent]:
    """What the tasks of an uninterrupted cluster would send."""
    events: list[RunEvent] = []

    def post(sent: Sequence[RunEvent]) -> bool:
        events.extend(sent)
        return False

    assert execute(assignment, post) is None
    return events


def drive(store: Store, address: str, observer: Observer) -> StudySummary:
    """Execute the study of a store by fake tasks; every checkpoint is sent."""
    from paretune.execution.cluster.ray_cluster import open_ray

    settings = WorkerSettings(checkpoint_seconds=0.0)
    executor = ClusterExecutor(partial(open_ray, address, execute), settings)
    return executor.execute(store, STUDY, StudyCallbacks(observer, add_runs=lambda: 0))


if __name__ == "__main__":
    with Store.open(Path(sys.argv[1])) as opened:
        drive(opened, sys.argv[2], RecordingObserver())
