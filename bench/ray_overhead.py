"""What a run on Ray takes more than one by a local worker, by runs that train nothing.

    python bench/ray_overhead.py

Baselines without a model on forty rows, local and on Ray in turn. What counts is the time between
the ends of runs, without what comes before the first. Every node is a process group of this machine
with one processor.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # as local workers; 15 by default

import ray
from ray.cluster_utils import Cluster

from paretune.execution.cluster.executor import ClusterExecutor
from paretune.execution.cluster.ray_cluster import open_ray
from paretune.execution.executor import Executor, StudyCallbacks
from paretune.execution.local import LocalExecutor
from paretune.execution.progress import Observer
from paretune.execution.worker_settings import WorkerSettings
from paretune.store import Store
from paretune.study import MethodSpec, ModelSpec, Run, TaskSpec

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
                executor.execute(store, STUDY, StudyCallbacks(Observer(), add_runs=lambda: 0))
                ends = sorted(status.ended_at or 0.0 for status in store.load_statuses(STUDY))
                # Of one worker, from the first end to the last.
                seconds[side].append(workers * (ends[-1] - ends[0]) / (len(ends) - 1))
                whole = time.monotonic() - begun
                print(f"{side}: {seconds[side][-1]:.2f} s a run, {whole:.0f} s in all", flush=True)
    local, on_ray = seconds["local"], seconds["ray"]
    more = sorted(ray - own for own, ray in zip(local, on_ray, strict=True))
    print(
        f"a run on Ray takes {median(more):+.2f} s [{more[0]:+.2f}, {more[-1]:+.2f}] (median and "
        f"range of {rounds} rounds, in turn) beside {median(local):.2f} s locally"
    )


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    measure_overhead(options.runs, options.nodes, options.rounds)


if __name__ == "__main__":
    main()
