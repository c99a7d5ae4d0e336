"""10,000 runs on 1 to 256 workers with one owner of the store: a discrete-event simulation.

    python bench/cluster_simulation.py                      # the tables of docs/cluster.md
    python bench/cluster_simulation.py --run-seconds 60 --seed 2

Simulated: the stages of a study (rates are tried, finals follow once a cell's trials have ended,
costs are measured when all else has, one after the other on each device kept for them), preemption
with and without notice, machines that are slow for one attempt, checkpoints that are sent every few
minutes, leases, and one server that answers requests one after the other. Renewals and looks at the
statuses, several millions, are not events: they take their share of the server from the requests
that are. Where that share is all of it, what waits is bounded by the number of workers, each of
which has one look outstanding: R = N D - Z (Denning and Buzen 1978, the asymptote of a closed
system), and a lease ends where a renewal waits longer than it.

What the server needs for a request is measured elsewhere (bench/serve_load.py) and given here
as seconds; the network's latency is added to each request of a worker.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

WORKERS = (1, 8, 16, 32, 64, 128, 256, 512)
BUSY_LIMIT = 0.7
"""Above this share of a server's time, queues grow fast (M/D/1: a mean wait of 1.2 services)."""


@dataclass(frozen=True)
class Workload:
    """A study and the machines it runs on.

    Attributes:
        cells: each with ``trials`` runs, then ``finals``, then one cost: eight runs by default.
        run_seconds: median of a lognormal distribution with ``run_sigma``.
        cost_devices: devices on which costs are measured at the same time.
        slow_share: of the attempts, ``slow_factor`` times as long: a slow or shared machine.
        preemptions_per_hour: of each worker; ``noticed`` is the share that comes with a signal, so
            that the run is saved and given back. Otherwise its lease must run out.
        away_seconds: mean time until a preempted worker is back.
        checkpoint_seconds: between two checkpoints that a run sends.
    """

    cells: int = 1250
    trials: int = 3
    finals: int = 4
    run_seconds: float = 600.0
    run_sigma: float = 0.4
    cost_seconds: float = 40.0
    cost_devices: int = 1
    slow_share: float = 0.02
    slow_factor: float = 3.0
    preemptions_per_hour: float = 0.25
    noticed: float = 0.5
    away_seconds: float = 300.0
    lease_seconds: float = 60.0
    checkpoint_seconds: float = 300.0

    @property
    def runs(self) -> int:
        """Of all stages."""
        return self.cells * (self.trials + self.finals + 1)


@dataclass(frozen=True)
class Server:
    """Seconds of the server for a request, and what a worker asks for.

    Measured by ``python bench/serve_load.py --requests --runs 10000 --busy 256``, over HTTP, in
    processor time; the times of a disk are apart.

    Attributes:
        claim: of a run, with the questions before it: what changed, what fits in memory.
        end: of a run, with a blob of 20 kB.
        renew: with a report of a step, and ``change``, to read and encode the changed status once
            for all workers that look at it.
        renewals_per_second: of a busy worker.
        look: at the statuses, and ``look_each`` for every run that has changed since the last one:
            those of the other workers, whose progress has.
        look_pause: seconds of a worker between the answer to a look and the next one.
        sync: until the disk has what was written: once for a claim, three times for an end;
            ``renew_syncs`` times for a renewal, which waits for none.
        latency: of the network, added to each request for the worker alone.
    """

    claim: float = 0.0126
    renew: float = 0.0025
    change: float = 53e-6
    end: float = 0.0074
    renewals_per_second: float = 0.2
    look: float = 0.0023
    look_each: float = 7.4e-6
    look_pause: float = 5.0
    sync: float = 0.007
    renew_syncs: int = 0
    latency: float = 0.002

    @property
    def claim_seconds(self) -> float:
        """Of one claim."""
        return self.claim + self.sync

    @property
    def renew_seconds(self) -> float:
        """Of one renewal."""
        return self.renew + self.change + self.renew_syncs * self.sync

    @property
    def end_seconds(self) -> float:
        """Of the end of a run."""
        return self.end + 3 * self.sync

    def look_seconds(self, workers: int) -> float:
        """At the statuses, where so many workers are busy."""
        return self.look + self.look_each * workers

    def looks_per_second(self, workers: int) -> float:
        """Of all workers, at most as many as the server can answer."""
        seconds = self.look_seconds(workers)
        return min(workers / (self.look_pause + seconds), 1 / seconds if seconds else workers)

    def backlog_seconds(self, workers: int) -> float:
        """How long a request waits for looks where they take all of the server's time."""
        return max(0.0, workers * self.look_seconds(workers) - self.look_pause)


@dataclass(frozen=True)
class Variant:
    """A server and its name."""

    name: str
    server: Server


def list_servers(measured: Server) -> list[Variant]:
    """As it is, and as it would be otherwise."""
    return [
        Variant("as it is", measured),
        Variant("if renewals waited for the disk", replace(measured, renew_syncs=1)),
    ]


@dataclass
class Outcome:
    """What one simulation came to; times in seconds.

    Attributes:
        nominal: seconds of all training runs, each on a machine that is not slow.
        work: seconds that workers trained and that counted; ``lost``: that did not.
    """

    workers: int
    nominal: float = 0.0
    makespan: float = 0.0
    trained_until: float = 0.0
    work: float = 0.0
    lost: float = 0.0
    preemptions: int = 0
    ended: int = 0
    requests: float = 0.0
    busy: float = 0.0
    peak_per_second: float = 0.0
    leases_end: bool = False
    waits: list[float] = field(default_factory=list)

    @property
    def training_efficiency(self) -> float:
        """Work on machines that are never slow over the time of all until all has trained."""
        return self.nominal / (self.workers * self.trained_until)

    def row(self) -> dict[str, Any]:
        """The columns of the table."""
        return {
            "workers": self.workers,
            "training_hours": self.trained_until / 3600,
            "makespan_hours": self.makespan / 3600,
            "efficiency": self.training_efficiency,
            "preemptions": self.preemptions,
            "lost_share": self.lost / (self.work + self.lost),
            "requests_per_second": self.requests / self.makespan,
            "peak_requests_per_second": self.peak_per_second,
            "server_busy": self.busy / self.makespan,
            "leases_end": self.leases_end,
            "wait_ms_p99": 1000 * float(np.percentile(self.waits, 99)),
        }


@dataclass(order=True)
class _Event:
    time: float
    number: int
    kind: str = field(compare=False)
    worker: int = field(compare=False, default=-1)
    run: int = field(compare=False, default=-1)
    attempt: int = field(compare=False, default=0)


class Simulation:
    """One study on a number of workers; :meth:`run` gives what it came to."""

    def __init__(self, workload: Workload, server: Server, workers: int, seed: int) -> None:
        self.workload, self.server, self.workers = workload, server, workers
        self.random = np.random.default_rng(seed)
        self.outcome = Outcome(workers)
        self.now, self._number, self._server_free = 0.0, 0, 0.0
        self._events: list[_Event] = []
        count = workload.cells * (workload.trials + workload.finals)
        spread = self.random.normal(0.0, workload.run_sigma, count)
        # Each run has the same length on any number of workers.
        self._left = list(workload.run_seconds * np.exp(spread))
        self.outcome.nominal = sum(self._left)
        self._todo = deque(range(workload.cells * workload.trials))
        self._trials_left = [workload.trials] * workload.cells
        self._ready: list[int] = []  # cells whose finals may be added
        self._to_train = count
        self._costs = 0
        self._idle: list[int] = []
        self._doing: dict[int, tuple[int, float, float]] = {}  # worker -> run, begun, speed
        self._attempt = [0] * workers
        self._minute, self._in_minute = 0, 0
        self._looks = server.looks_per_second(workers)
        self._backlog = server.backlog_seconds(workers)

    def run(self) -> Outcome:
        """Simulate until every run has ended."""
        for worker in range(self.workers):
            self._ask(worker)
            self._schedule_preemption(worker)
        while self.outcome.ended < self.workload.runs:
            event = heapq.heappop(self._events)
            self.now = event.time
            if event.kind in ("end", "preempt") and event.attempt != self._attempt[event.worker]:
                continue  # of an attempt that was cut short, or of a worker that was away
            getattr(self, f"_on_{event.kind}")(event)
        self.outcome.makespan = self.now
        self._close_minute()
        busy_seconds = self.outcome.work + self.outcome.lost
        renewals = busy_seconds * self.server.renewals_per_second
        looks = self.outcome.trained_until * self._looks
        self.outcome.requests += renewals + looks
        self.outcome.busy += renewals * self.server.renew_seconds
        self.outcome.busy += looks * self.server.look_seconds(self.workers)
        self.outcome.leases_end = self._backlog > self.workload.lease_seconds
        return self.outcome

    # Events

    def _on_claimed(self, event: _Event) -> None:
        """The server has answered a worker that asked for a run."""
        worker = event.worker
        if event.attempt != self._attempt[worker]:
            if event.run >= 0:  # it was preempted meanwhile; its lease runs out
                self._push(self.now + self.workload.lease_seconds, "abandoned", run=event.run)
            return
        slow = self.random.random() < self.workload.slow_share
        speed = 1 / self.workload.slow_factor if slow else 1.0
        self._doing[worker] = event.run, self.now, speed
        end = self.now + self._left[event.run] / speed
        self._push(end, "end", worker=worker, run=event.run, attempt=event.attempt)

    def _on_end(self, event: _Event) -> None:
        """A run has trained to its end: it is written, and the worker asks for another one."""
        run, begun, _ = self._doing.pop(event.worker)
        self.outcome.work += self.now - begun
        written = self._request(self.server.end_seconds)
        self._push(written, "written", worker=event.worker, run=run, attempt=event.attempt)

    def _on_written(self, event: _Event) -> None:
        self.outcome.ended += 1
        self._to_train -= 1
        if self._is_trial(event.run):
            cell = event.run // self.workload.trials
            self._trials_left[cell] -= 1
            if self._trials_left[cell] == 0:
                self._ready.append(cell)
        self._add_finals()
        if self._to_train == 0:
            self.outcome.trained_until = self.now
            for _ in range(min(self.workload.cost_devices, self.workload.cells)):
                self._begin_cost()
        if event.attempt == self._attempt[event.worker]:
            self._ask(event.worker)

    def _on_cost_ended(self, event: _Event) -> None:
        self.outcome.ended += 1
        self._begin_cost()

    def _on_preempt(self, event: _Event) -> None:
        worker, workload = event.worker, self.workload
        self.outcome.preemptions += 1
        self._attempt[worker] += 1
        if worker in self._idle:
            self._idle.remove(worker)
        noticed = self.random.random() < workload.noticed
        if worker in self._doing:
            run, begun, speed = self._doing.pop(worker)
            spent = self.now - begun
            saved = spent if noticed else spent - spent % workload.checkpoint_seconds
            self._left[run] -= saved * speed
            self.outcome.work += saved
            self.outcome.lost += spent - saved
            after = (
                self._request(self.server.end_seconds) - self.now
                if noticed
                else workload.lease_seconds
            )
            self._push(self.now + after, "abandoned", run=run)
        away = self.random.exponential(workload.away_seconds)
        self._push(self.now + away, "back", worker=worker)

    def _on_back(self, event: _Event) -> None:
        self._ask(event.worker)
        self._schedule_preemption(event.worker)

    def _on_abandoned(self, event: _Event) -> None:
        self._todo.append(event.run)
        self._wake()

    # What they do

    def _ask(self, worker: int) -> None:
        """A worker asks for a run; without one it is idle until there are some."""
        if not self._todo:
            self._idle.append(worker)
            return
        run = self._todo.popleft()
        answered = self._request(self.server.claim_seconds)
        self._push(answered, "claimed", worker=worker, run=run, attempt=self._attempt[worker])

    def _wake(self) -> None:
        while self._idle and self._todo:
            self._ask(self._idle.pop(0))

    def _add_finals(self) -> None:
        """Finals are added when no run is left to claim, as the loop of an executor does."""
        if self._todo or not self._ready:
            return
        first = self.workload.cells * self.workload.trials
        for cell in self._ready:
            start = first + cell * self.workload.finals
            self._todo.extend(range(start, start + self.workload.finals))
        self._ready.clear()
        self._wake()

    def _begin_cost(self) -> None:
        if self._costs < self.workload.cells:
            self._costs += 1
            self._request(self.server.claim_seconds)
            self._request(self.server.end_seconds)
            self._push(self.now + self.workload.cost_seconds, "cost_ended")

    def _is_trial(self, run: int) -> bool:
        return run < self.workload.cells * self.workload.trials

    def _schedule_preemption(self, worker: int) -> None:
        if self.workload.preemptions_per_hour:
            pause = self.random.exponential(3600 / self.workload.preemptions_per_hour)
            attempt = self._attempt[worker]
            self._push(self.now + pause, "preempt", worker=worker, attempt=attempt)

    def _request(self, seconds: float) -> float:
        """When a request is answered that comes now: first come, first served, beside renewals."""
        share = len(self._doing) * self.server.renewals_per_second * self.server.renew_seconds
        if not self._backlog:  # otherwise looks wait in the same line
            share += self._looks * self.server.look_seconds(self.workers)
        begin = max(self.now, self._server_free)
        self._server_free = begin + seconds / (1 - min(share, 0.99))
        self.outcome.busy += seconds
        self.outcome.requests += 1
        self.outcome.waits.append(begin - self.now + self._backlog)
        if int(self.now // 60) != self._minute:
            self._close_minute()
        self._in_minute += 1
        return self._server_free + self._backlog + self.server.latency

    def _close_minute(self) -> None:
        rate = self._in_minute / 60 + len(self._doing) * self.server.renewals_per_second
        rate += self._looks
        self.outcome.peak_per_second = max(self.outcome.peak_per_second, rate)
        self._minute, self._in_minute = int(self.now // 60), 0

    def _push(self, time: float, kind: str, **more: int) -> None:
        self._number += 1
        heapq.heappush(self._events, _Event(time, self._number, kind, **more))


def simulate(workload: Workload, server: Server, workers: int, seed: int = 1) -> Outcome:
    """One study on so many workers; the same seed gives the same outcome."""
    return Simulation(workload, server, workers, seed).run()


def count_servable_workers(run_seconds: float, server: Server, limit: float = BUSY_LIMIT) -> int:
    """How many busy workers take ``limit`` of the server's time, with runs of such a length."""
    ends = (server.claim_seconds + server.end_seconds) / run_seconds
    renewals = server.renewals_per_second * server.renew_seconds
    workers = 0
    while True:
        look = server.look_seconds(workers + 1)
        each = ends + renewals + look / (server.look_pause + look)
        if (workers + 1) * each > limit:
            return workers
        workers += 1


def print_table(rows: list[dict[str, Any]]) -> None:
    """As Markdown, for docs/cluster.md."""
    print(
        "| workers | training | with costs | efficiency | lost | requests/s | peak | busy | wait |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        if row["leases_end"]:
            print(f"| {row['workers']} | renewals wait longer than a lease: not served |||||||||")
            continue
        print(
            f"| {row['workers']} | {row['training_hours']:.1f} h | {row['makespan_hours']:.1f} h "
            f"| {row['efficiency']:.0%} | {row['lost_share']:.1%} "
            f"| {row['requests_per_second']:.1f} | {row['peak_requests_per_second']:.0f} "
            f"| {min(1.0, row['server_busy']):.0%} | {_format_wait(row['wait_ms_p99'])} |"
        )


def _format_wait(milliseconds: float) -> str:
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def print_limits(server: Server) -> None:
    """Workers that one server bears, by the length of a run."""
    lengths = (10, 60, 600, 3600)
    print(f"\n| server | {' | '.join(f'{seconds} s a run' for seconds in lengths)} |")
    print(f"|---|{'---:|' * len(lengths)}")
    for one in list_servers(server):
        counts = [count_servable_workers(seconds, one.server) for seconds in lengths]
        print(f"| {one.name} | {' | '.join(map(str, counts))} |")


def main() -> None:
    """Print both tables, or write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in _list_numbers():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=type(default), default=default)
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, help="write the rows as JSON here too")
    options = parser.parse_args()
    values = vars(options)
    workload = Workload(**{f.name: values[f.name] for f in fields(Workload)})
    server = Server(**{f.name: values[f.name] for f in fields(Server)})
    rows: dict[str, list[dict[str, Any]]] = {}
    for one in list_servers(server):
        outcomes = [simulate(workload, one.server, n, options.seed) for n in options.workers]
        rows[one.name] = [outcome.row() for outcome in outcomes]
        print(f"\n{one.name}:\n")
        print_table(rows[one.name])
    print_limits(server)
    if options.output is not None:
        options.output.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def _list_numbers() -> Iterator[tuple[str, Any]]:
    for part in (Workload(), Server()):
        for one in fields(part):
            yield one.name, getattr(part, one.name)


if __name__ == "__main__":
    main()
