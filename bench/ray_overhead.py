"""A study on a Ray cluster of this machine beside worker processes: same results, seconds a run.

    python bench/ray_overhead.py                 # seconds a run, by runs that train nothing
    python bench/ray_overhead.py --study sample 'tasks=[routing]' training.max_steps=20

Without a study: baselines without a model on forty rows, local and on Ray in turn; what counts is
the time between the ends of runs, without what comes before the first. With one: it is executed
locally, then on the cluster, where a node is killed as soon as all are busy, and the results are
compared value by value. Every node is a process group of this machine with one processor.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # as local workers; 15 by default

import ray
from ray.cluster_utils import Cluster

import paretune
from paretune.execution.cluster.executor import ClusterExecutor
from paretune.execution.cluster.ray_cluster import open_ray
from paretune.execution.executor import Executor, StudyCallbacks
from paretune.execution.local import LocalExecutor
from paretune.execution.progress import Observer
from paretune.execution.worker_settings import WorkerSettings
from paretune.store import Store
from paretune.study import MethodSpec, ModelSpec, Run, Study, TaskSpec
from paretune.verbs.study_input import find_study_file

STUDY = "overhead"
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@contextmanager
def open_cluster(nodes: int) -> Iterator[Cluster]:
    """A head and further nodes on the loopback interface."""
    head = {**NODE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(nodes - 1):
            cluster.add_node(**NODE)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def make_store(folder: Path, runs: int) -> Store:
    """A store with baselines without a model, on forty rows; folder is a new one."""
    folder.mkdir()
    for part in ("train", "test"):
        rows = [f"text {part} {i},{'yes' if i % 3 else 'no'}" for i in range(40)]
        (folder / f"{part}.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    task = TaskSpec(
        name="words",
        kind="classification",
        train=str(folder / "train.csv"),
        test=str(folder / "test.csv"),
        text="text",
        label="label",
    )
    method, model = MethodSpec(name="majority"), ModelSpec(name="-")
    run = Run(stage="final", task=task, model=model, method=method, learning_rate=None, seed=0)
    store = Store.open(folder / "store", create=True)
    store.save_study(STUDY, "overhead", "study: overhead\n", {"study": "overhead"})
    seeds = [run.model_copy(update={"seed": seed}) for seed in range(runs)]
    store.add_runs(STUDY, [(f"run{one.seed}", one) for one in seeds])
    return store


def execute(study: Study, folder: Path, workers: int, address: str | None, observer: Any) -> float:
    """Seconds of a whole study, locally or on the cluster at an address."""
    where: dict[str, Any] = {"executor": "ray", "address": address} if address else {}
    begun = time.monotonic()
    # Alone: which runs share a backbone depends on the moment, and bits are promised without it.
    options: dict[str, Any] = {"workers": workers, "fleet": 1, "devices": "cpu"}
    paretune.run(study, store=folder, observer=observer, **options, **where)
    return time.monotonic() - begun


def seconds_a_run(store: Store, executor: Executor, workers: int) -> float:
    """Of one worker, from the first end to the last."""
    executor.execute(store, STUDY, StudyCallbacks(Observer(), add_runs=lambda: 0))
    ends = sorted(status.ended_at or 0.0 for status in store.load_statuses(STUDY))
    return workers * (ends[-1] - ends[0]) / (len(ends) - 1)


def measure_overhead(runs: int, workers: int, rounds: int) -> None:
    """Print the seconds of a run that does next to nothing, local and on Ray in turn."""
    seconds: dict[str, list[float]] = {"local": [], "ray": []}
    with tempfile.TemporaryDirectory() as place, open_cluster(workers) as cluster:
        sides: dict[str, Executor] = {
            "local": LocalExecutor([WorkerSettings(device_workers=workers)]),
            "ray": ClusterExecutor(partial(open_ray, cluster.address)),
        }
        for turn in range(rounds):
            for side, executor in sides.items():
                store, begun = make_store(Path(place) / f"{side}{turn}", runs), time.monotonic()
                seconds[side].append(seconds_a_run(store, executor, workers))
                whole = time.monotonic() - begun
                print(f"{side}: {seconds[side][-1]:.2f} s a run, {whole:.0f} s in all", flush=True)
    local, on_ray = seconds["local"], seconds["ray"]
    more = sorted(ray - own for own, ray in zip(local, on_ray, strict=True))
    print(
        f"a run on Ray takes {median(more):+.2f} s [{more[0]:+.2f}, {more[-1]:+.2f}] (median and "
        f"range of {rounds} rounds, in turn) beside {median(local):.2f} s locally"
    )


class KillNode(Observer):
    """Kills the last node of a cluster once every node has a run in the middle."""

    def __init__(self, cluster: Cluster, folder: Path, study: Study, nodes: int) -> None:
        self.cluster, self.folder, self.study, self.nodes = cluster, folder, study, nodes
        self.killed = False

    def update(self, snapshot: Any) -> None:
        """Look at the store, as often as the progress changes."""
        if self.killed:
            return
        with Store.open(self.folder) as store:
            statuses = store.load_statuses(self.study.study_hash)
        if sum(s.state == "running" and "step" in s.progress for s in statuses) >= self.nodes - 1:
            self.cluster.remove_node(self.cluster.list_all_nodes()[-1], allow_graceful=False)
            self.killed = True
            print("killed a node", flush=True)

    def note(self, text: str) -> None:
        """What the executor says."""
        print(text, flush=True)


def read_results(study: Study, folder: Path) -> dict[str, Any]:
    """The reproducible part of every training run's record, predictions and weights by hash."""
    with Store.open(folder) as store:
        records = store.load_records(study.study_hash)
    return {r.run_id: (r.state, r.result) for r in records if r.run.stage != "cost"}


def compare(study: Study, workers: int, kill: bool) -> bool:
    """Execute a study locally and on Ray; whether every result is the same, bit for bit."""
    with tempfile.TemporaryDirectory() as place, open_cluster(workers) as cluster:
        local, on_ray = Path(place) / "local", Path(place) / "ray"
        print(f"local: {execute(study, local, workers, None, Observer()):.0f} s", flush=True)
        observer = KillNode(cluster, on_ray, study, workers) if kill else Observer()
        print(f"ray: {execute(study, on_ray, workers, cluster.address, observer):.0f} s")
        expected, results = read_results(study, local), read_results(study, on_ray)
        with Store.open(on_ray) as store:
            attempts = [status.attempt for status in store.load_statuses(study.study_hash)]
    differing = [run for run in expected if results.get(run) != expected[run]]
    print(f"{len(expected)} runs, {len(differing)} with another result; attempts {attempts}")
    return not differing and results.keys() == expected.keys()


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", help="a study file, or the name of a shipped one")
    parser.add_argument("overrides", nargs="*", help="settings of the study")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep-nodes", action="store_true", help="kill no node")
    options = parser.parse_args()
    if options.study is None:
        measure_overhead(options.runs, options.nodes, options.rounds)
        return
    study = Study.load(find_study_file(options.study), options.overrides)
    sys.exit(not compare(study, options.nodes, not options.keep_nodes))


if __name__ == "__main__":
    main()
