"""A served study while its workers and its server are killed again and again, and answers are lost.

Eight workers on loopback, each a process that trains; every tenth answer is dropped after the
server has done what was asked. Each process kills itself (SIGKILL) at a random point: a worker
after a request that changed something, before it sees the answer or behind it, or at a training
step; the server before a request, inside a transaction, or before it answers. So the kills hit the
same moments on a fast machine and on a slow one. Workers are at foreign places for the store: it
cannot prove them dead, so their leases must run out.

At the end the results are compared with those of one process that nobody disturbed.

    python bench/serve_faults.py
    python bench/serve_faults.py --seeds 5 --worker-kills 20 --server-kills 4
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from paretune.execution.run_executor import make_training_executor
from paretune.execution.signals import StopRequest
from paretune.execution.worker import WorkerOptions, run_worker
from paretune.planning import preflight
from paretune.planning.context import StudyContext
from paretune.store import Store
from paretune.store.journal import read_ended_runs
from paretune.store.remote.client import RemoteStore
from paretune.store.remote.http_server import HttpServer
from paretune.store.remote.messages import Request, Response
from paretune.store.remote.service import ServedStudy, StoreService
from paretune.store.remote.transport import HttpTransport, PatientTransport
from paretune.store.sqlite import answers
from paretune.study import Study
from paretune.testing.tiny_models import tiny_model
from paretune.testing.tiny_tasks import tiny_task

TOKEN = "of this benchmark alone"  # noqa: S105
LEASE_SECONDS = 4.0
DROPPED = 10
"""Every so many answers, one is lost."""
STAGES = ("tune", "final")
IDLE, NOTHING = ("get_settings", "load_statuses"), b'{"value":null}'
"""What a worker that has nothing to do asks, and the answer to its claim: nobody dies of it."""
POINTS = 12
"""Of a run, about: requests that change something, twice each, and training steps."""


class Fuse:
    """Kills this process at a random one of the points that it passes."""

    def __init__(self, draw: random.Random, mean: float) -> None:
        self._left = 1 + int(draw.expovariate(1 / mean)) if mean else -1

    def pass_point(self) -> None:
        """One of the points; at the last one, this process is gone."""
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class FaultyTransport:
    """Loses answers, and burns the fuse after every request that changed something."""

    def __init__(self, url: str, fuse: Fuse, lost: Any) -> None:
        self._http, self._fuse, self._lost = HttpTransport(url, TOKEN), fuse, lost

    def send(self, request: Request, into: Path | None = None) -> Response:
        """See :class:`~paretune.store.remote.transport.Transport`."""
        response = self._http.send(request, into)
        counts = not request.path.endswith(IDLE) and response.body != NOTHING
        if counts:
            self._fuse.pass_point()
        with self._lost.get_lock():
            self._lost.value += 1
            drop = self._lost.value % DROPPED == 0
        if drop:
            self._http.close()
            raise ConnectionResetError("the answer is lost")
        if counts:
            self._fuse.pass_point()
        return response

    def close(self) -> None:
        """See :class:`~paretune.store.remote.transport.Transport`."""
        self._http.close()


def make_study(folder: Path, seeds: int) -> Study:
    """Three methods on a tiny model, three rates each, then so many final seeds."""
    task = tiny_task(folder / "data", train=32, test=8).model_dump(exclude_none=True)
    return Study.parse(
        {
            "study": "faults",
            "tasks": [task],
            "models": [{"name": str(tiny_model("bert", folder / "model")), "label": "tiny"}],
            "methods": [{"name": "lora", "rank": 2}, "bitfit", "head_only"],
            "protocol": {
                "trials": 3,
                "folds": 1,
                "seeds": list(range(1, seeds + 1)),
                "outer": "split",
            },
            "training": {
                "max_steps": 4,
                "eval_every": 2,
                "max_length": 32,
                "batch_size": 8,
                "precision": "fp32",
            },
        }
    )


def open_study(study: Study, folder: Path) -> tuple[Store, StudyContext]:
    """The store of a study and its context; the study is in it."""
    store = Store.open(folder, create=True)
    context = preflight.make_context(store, "cpu")
    store.save_study(study.study_hash, study.study, "", study.canonical_form())
    return store, context


def run_undisturbed(study: Study, folder: Path, executor: Any) -> dict[str, Any]:
    """What one process makes of the study."""
    store, context = open_study(study, folder)
    with store:
        while preflight.add_missing_runs(study, context, store):
            run_worker(store, study.study_hash, executor, StopRequest(), WorkerOptions(STAGES))
        return read_results(store, study)


def read_results(store: Store, study: Study) -> dict[str, Any]:
    """Of all ended runs: what must be the same bits wherever they ran."""
    return {record.run_id: dict(record.result) for record in store.load_records(study.study_hash)}


def serve(study: Study, folder: Path, port: int, seed: int, mean: float) -> None:
    """The server's process: it answers, and adds runs when others have ended."""
    fuse = Fuse(random.Random(seed), mean)  # noqa: S311 (no secret)
    store, context = open_study(study, folder)
    preflight.add_missing_runs(study, context, store)
    service = StoreService(folder, TOKEN, ServedStudy(study.study_hash), "bench")
    answer, put_answer = service.answer, answers.put_answer

    def answer_or_die(request: Request) -> Response:
        fuse.pass_point()
        response = answer(request)
        fuse.pass_point()
        return response

    def put_or_die(*arguments: Any) -> None:
        put_answer(*arguments)
        fuse.pass_point()

    service.answer = answer_or_die  # type: ignore[method-assign]
    answers.put_answer = put_or_die
    with HttpServer(service, "127.0.0.1", port):
        while True:
            time.sleep(0.2)
            statuses = store.load_statuses(study.study_hash)
            if all(s.state != "todo" for s in statuses if s.stage in STAGES):
                preflight.add_missing_runs(study, context, store)


def work(
    study: Study, folder: Path, url: str, executor: Any, number: int, mean: float, lost: Any
) -> None:
    """A worker's process; the store takes it for one of another machine."""
    fuse = Fuse(random.Random(number), mean)  # noqa: S311 (no secret)
    store = RemoteStore(
        folder,
        lambda: PatientTransport(FaultyTransport(url, fuse, lost), url, patience_seconds=600),
        poll_seconds=0.2,
    )
    owner = f"node{number}:boot:{os.getpid()}:1"
    options = WorkerOptions(STAGES, wait=True, lease_seconds=LEASE_SECONDS, owner=owner)
    run_worker(store, study.study_hash, Burning(executor, fuse), StopRequest(), options)


class Burning:
    """An executor that burns the fuse at every training step."""

    def __init__(self, executor: Any, fuse: Fuse) -> None:
        self._executor, self._fuse = executor, fuse

    def execute(self, job: Any, halvings: int = 0) -> Any:
        """See :class:`~paretune.execution.run_executor.RunExecutor`."""
        report = job.report

        def report_or_die(progress: dict[str, Any]) -> None:
            self._fuse.pass_point()
            report(progress)

        job.report = report_or_die
        return self._executor.execute(job, halvings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)


def main() -> None:
    """Disturb a study, and compare it with one that was not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--worker-kills", type=int, default=200)
    parser.add_argument("--server-kills", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = make_study(folder, arguments.seeds)
        executor = make_training_executor("cpu", 1)
        began = time.monotonic()
        expected = run_undisturbed(study, folder / "alone", executor)
        print(f"one process: {len(expected)} runs in {time.monotonic() - began:.0f} s", flush=True)
        port = free_port()
        url, store_folder = f"http://127.0.0.1:{port}", folder / "served"
        lost = context.Value("L", 0)
        numbers = itertools.count(1)
        kills = Counter({"worker": 0, "server": 0})

        def start_server() -> Any:
            left = arguments.server_kills - kills["server"]
            mean = len(expected) * 25 / max(1, arguments.server_kills) if left > 0 else 0
            return start(serve, study, store_folder, port, next(numbers), mean)

        def start_worker(place: int) -> Any:
            left = arguments.worker_kills - kills["worker"]
            mean = len(expected) * POINTS / max(1, arguments.worker_kills) if left > 0 else 0
            number = next(numbers)
            own = folder / f"worker{place}"
            return start(work, study, own, url, executor, number, mean, lost)

        def start(target: Callable[..., None], *values: Any) -> Any:
            process = context.Process(target=target, args=values, daemon=True)
            process.start()
            return process

        began = time.monotonic()
        server = start_server()
        workers = [start_worker(place) for place in range(arguments.workers)]
        store, _ = open_study(study, store_folder)
        with store:
            while not is_complete(store, study, expected):
                time.sleep(0.2)
                if server.exitcode is not None:
                    kills["server"] += server.exitcode == -signal.SIGKILL
                    require(server.exitcode == -signal.SIGKILL, "the server failed")
                    server = start_server()
                for place, worker in enumerate(workers):
                    if worker.exitcode is not None:
                        require(worker.exitcode == -signal.SIGKILL, "a worker failed")
                        kills["worker"] += 1
                        workers[place] = start_worker(place)
            seconds = time.monotonic() - began
            for process in [server, *workers]:
                process.kill()
                process.join()
            summary = summarise(store, study, expected)
    summary |= {
        "workers": arguments.workers,
        "worker_kills": kills["worker"],
        "server_kills": kills["server"],
        "answers": lost.value,
        "answers_dropped": lost.value // DROPPED,
        "seconds": round(seconds),
    }
    print(json.dumps(summary, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(summary, indent=1), encoding="utf-8")
    bad = [summary[name] for name in ("lost", "double", "different", "problems")]
    sys.exit(1 if any(bad) else 0)


def is_complete(store: Store, study: Study, expected: dict[str, Any]) -> bool:
    """Whether as many runs have ended as one process made."""
    statuses = store.load_statuses(study.study_hash)
    ended = {s.run_id for s in statuses if s.ended and s.stage in STAGES}
    return len(ended) >= len(expected)


def summarise(store: Store, study: Study, expected: dict[str, Any]) -> dict[str, Any]:
    """Lost: not there or failed. Double: ended twice. Different: not the same bits."""
    results = read_results(store, study)
    statuses = {s.run_id: s for s in store.load_statuses(study.study_hash)}
    ends = Counter(run.run_id for run in read_ended_runs(store.folder / "done.jsonl"))
    trained = [s for s in statuses.values() if s.stage in STAGES]
    return {
        "runs": len(trained),
        "attempts": sum(s.attempt for s in trained),
        "lost": sum(results.get(run_id, {}).get("outcome") is None for run_id in expected),
        "double": sum(count > 1 for count in ends.values()) + len(set(results) - set(expected)),
        "different": sum(results.get(run_id) != result for run_id, result in expected.items()),
        "problems": store.verify(),
    }


def free_port() -> int:
    """One that nobody listens on now: a server that is started again gets the same one."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require(holds: bool, message: str) -> None:
    """End with the message unless the condition holds."""
    if not holds:
        sys.exit(message)


if __name__ == "__main__":
    main()
