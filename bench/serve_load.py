"""How much one server bears: requests a second, and what a run costs in requests and bytes.

Worker processes on loopback claim runs, report one step, bring a blob and finish, as fast as they
can; nothing is trained. The same work straight on the store, by one process, stands beside it.
With --requests: what the server needs for each kind of request, in a large study that many workers
train; bench/cluster_simulation.py takes these numbers.

    python bench/serve_load.py
    python bench/serve_load.py --runs 2000 --workers 1 4 16 --blob 100000
    python bench/serve_load.py --requests --runs 10000 --busy 256
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from paretune.execution.memory_budget import MemoryBudget
from paretune.planning.worker_count import MEMORY_PREFIX
from paretune.store import Claim, Storage, Store
from paretune.store.remote.client import RemoteStore
from paretune.store.remote.http_server import HttpServer
from paretune.store.remote.service import ServedStudy, StoreService
from paretune.store.remote.transport import HttpTransport, PatientTransport
from paretune.study import MethodSpec, ModelSpec, Run, TaskSpec, digest

TOKEN = "of this benchmark alone"  # noqa: S105
FORM = {"study": "load"}
STUDY = digest(FORM)[:16]
RESULT = {"outcome": "ok", "scores": {"test": {"primary": 0.5}}, "curve": [{"step": 1}] * 10}
MEASURED = {"wall_seconds": {"train": 1.0}}


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
    while (claim := store.claim(owner, STUDY)) is not None:
        store.renew(claim, {"step": 1, "steps": 2, "loss": 0.5})
        blobs = {"predictions": os.urandom(blob_bytes)}
        store.finish(claim, RESULT, MEASURED, blobs)
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


def measure_requests(runs: int, busy: int, blob_bytes: int) -> Iterator[dict[str, Any]]:
    """Each kind of request over HTTP, in a store of so many runs of which ``busy`` are trained.

    Milliseconds of this process, which is the server's, for each time that it is asked, and by the
    clock of the client; ``requests``: how many that were.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "store"
        make_store(folder, runs)
        yield {"sync_ms": measure_sync(Path(name))}
        with Store.open(folder) as store:
            store.set_settings({f"{MEMORY_PREFIX}run{i:06d}": str(2**28) for i in range(runs)})
            claims = [claim_next(store, f"node{i}:boot{i}:1:1@cpu") for i in range(busy)]
            service = StoreService(folder, TOKEN, ServedStudy(STUDY), "bench")
            with HttpServer(service, "127.0.0.1", 0) as server:
                ours, theirs = context.Pipe()
                arguments = (theirs, server.url, Path(name) / "worker", blob_bytes)
                process = context.Process(target=answer_questions, args=arguments)
                process.start()
                theirs.close()  # so that its end is seen here
                for what, times in QUESTIONS.items():
                    processor, clock = [], []
                    for number in range(times):
                        if "busy" in what or "them" in what:
                            for claim in claims:
                                store.renew(claim, {"step": number, "steps": 1000, "loss": 0.5})
                        if "them" in what:
                            ours.send("look")
                            ours.recv()
                        before = sum(service.counts.requests.values())
                        began, clock_began = time.process_time(), time.monotonic()
                        ours.send(what)
                        ours.recv()
                        processor.append(time.process_time() - began)
                        clock.append(time.monotonic() - clock_began)
                        requests = sum(service.counts.requests.values()) - before
                    yield {
                        "what": what,
                        "requests": requests,
                        "processor_ms": round(1000 * median(processor), 2),
                        "clock_ms": round(1000 * median(clock), 2),
                    }
                ours.send(None)
                process.join()
            service.close()


QUESTIONS = {
    "first look": 1,
    "look": 30,
    "look at all busy ones": 7,
    "look at them by another worker": 7,
    "claim": 30,
    "renew": 60,
    "end": 30,
}
"""What is measured, and how many times each."""


def answer_questions(pipe: Any, url: str, folder: Path, blob_bytes: int) -> None:
    """A worker's process that does what it is told: as :mod:`paretune.execution.worker` does it."""
    owner, claims = f"node:boot:{os.getpid()}:1@cpu", []

    def ask(store: Storage, what: str) -> None:
        if "look" in what:
            store.load_statuses(STUDY, owner)
        elif what == "claim":
            budget = MemoryBudget.load(store, 2**34)
            claims.append(store.claim(owner, STUDY, ("tune", "final"), 600.0, budget.admits))
        elif what == "renew":
            store.renew(claims[0], {"step": 1, "steps": 2, "loss": 0.5})
        else:
            store.finish(claims.pop(), RESULT, MEASURED, {"predictions": os.urandom(blob_bytes)})

    with (
        RemoteStore(folder, lambda: PatientTransport(HttpTransport(url, TOKEN), url)) as store,
        store.reopen() as another,
    ):
        another.load_statuses(STUDY, owner)
        while (what := pipe.recv()) is not None:
            ask(another if "another" in what else store, what)
            pipe.send(what)


def claim_next(store: Storage, owner: str) -> Claim:
    """A run that somebody trains for an hour."""
    claim = store.claim(owner, STUDY, lease_seconds=3600.0)
    if claim is None:
        raise SystemExit("more busy workers than runs")
    return claim


def measure_sync(folder: Path) -> float:
    """Milliseconds until the disk has a page that was appended, median of 30."""
    seconds = []
    with (folder / "sync").open("wb") as file:
        for _ in range(30):
            file.write(os.urandom(4096))
            file.flush()
            began = time.monotonic()
            os.fsync(file.fileno())
            seconds.append(time.monotonic() - began)
    return round(1000 * median(seconds), 2)


def main() -> None:
    """Measure, and print one JSON object for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--blob", type=int, default=20_000, help="bytes of a run's blob")
    parser.add_argument("--requests", action="store_true", help="each kind of request by itself")
    parser.add_argument("--busy", type=int, default=256, help="with --requests: runs in training")
    arguments = parser.parse_args()
    if arguments.requests:
        for one in measure_requests(arguments.runs, arguments.busy, arguments.blob):
            print(json.dumps(one), flush=True)
        return
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
