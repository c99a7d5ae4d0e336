"""How much one server bears: requests a second, and what a run costs in requests and bytes.

Worker processes on loopback claim runs, report one step, bring a blob and finish, as fast as they
can; nothing is trained. The same work straight on the store, by one process, stands beside it.

    python bench/serve_load.py
    python bench/serve_load.py --runs 2000 --workers 1 4 16 --blob 100000
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from paretune.store import Storage, Store
from paretune.store.remote.client import RemoteStore
from paretune.store.remote.http_server import HttpServer
from paretune.store.remote.service import ServedStudy, StoreService
from paretune.store.remote.transport import HttpTransport, PatientTransport
from paretune.study import MethodSpec, ModelSpec, Run, TaskSpec, digest

TOKEN = "of this benchmark alone"  # noqa: S105
FORM = {"study": "load"}
STUDY = digest(FORM)[:16]


def make_store(folder: Path, runs: int) -> None:
    """A store with so many runs that nobody trains."""
    task, model = TaskSpec(name="cb", language="sl"), ModelSpec(name="tiny")
    method = MethodSpec(name="lora")
    with Store.open(folder, create=True) as store:
        store.save_study(STUDY, "load", "study: load\n", FORM)
        values = {"task": task, "model": model, "method": method, "learning_rate": 1e-3}
        store.add_runs(
            STUDY,
            [(f"run{i:06d}", Run(stage="final", seed=i, **values)) for i in range(runs)],
        )


def work(store: Storage, blob_bytes: int) -> int:
    """Claim and finish until nothing is left; how many."""
    count, owner = 0, f"node:boot:{os.getpid()}:1"
    result = {"outcome": "ok", "scores": {"test": {"primary": 0.5}}, "curve": [{"step": 1}] * 10}
    while (claim := store.claim(owner, STUDY)) is not None:
        store.renew(claim, {"step": 1, "steps": 2, "loss": 0.5})
        blobs = {"predictions": os.urandom(blob_bytes)}
        store.finish(claim, result, {"wall_seconds": {"train": 1.0}}, blobs)
        count += 1
    return count


def work_remote(url: str, folder: Path, blob_bytes: int) -> None:
    """A worker's process."""
    with RemoteStore(folder, lambda: PatientTransport(HttpTransport(url, TOKEN), url)) as store:
        work(store, blob_bytes)


def measure(runs: int, workers: int, blob_bytes: int) -> dict[str, Any]:
    """One server and its workers, until all runs have ended."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "store"
        make_store(folder, runs)
        service = StoreService(folder, TOKEN, ServedStudy(STUDY), "bench")
        with HttpServer(service, "127.0.0.1", 0) as server:
            folders = [Path(name) / f"worker{i}" for i in range(workers)]
            processes = [
                context.Process(target=work_remote, args=(server.url, own, blob_bytes))
                for own in folders
            ]
            for process in processes:
                process.start()
            while not service.counts.requests:
                time.sleep(0.001)
            began, processor = time.monotonic(), time.process_time()
            for process in processes:
                process.join()
            seconds, busy = time.monotonic() - began, time.process_time() - processor
        requests = sum(service.counts.requests.values())
        counts = service.counts
        service.close()
    return {
        "workers": workers,
        "runs": runs,
        "seconds": round(seconds, 2),
        "requests_per_second": round(requests / seconds, 1),
        "runs_per_second": round(runs / seconds, 1),
        "requests_per_run": round(requests / runs, 2),
        "bytes_in_per_run": round(counts.received / runs),
        "bytes_out_per_run": round(counts.sent / runs),
        "server_processor_ms_per_request": round(1000 * busy / requests, 2),
    }


def main() -> None:
    """Measure, and print one JSON object for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--blob", type=int, default=20_000, help="bytes of a run's blob")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        make_store(Path(name), arguments.runs)
        with Store.open(Path(name)) as store:
            began, processor = time.monotonic(), time.process_time()
            work(store, arguments.blob)
            seconds, busy = time.monotonic() - began, time.process_time() - processor
    local = {"runs_per_second": round(arguments.runs / seconds, 1)}
    local["processor_ms_per_run"] = round(1000 * busy / arguments.runs, 2)
    print(json.dumps({"local": local}), flush=True)
    for workers in arguments.workers:
        print(json.dumps(measure(arguments.runs, workers, arguments.blob)), flush=True)


if __name__ == "__main__":
    main()
