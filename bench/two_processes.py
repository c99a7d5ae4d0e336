"""Two processes with one thread each, beside one process with two: the field's, and paretune's.

A user with two cores can train two runs at once. Here all processes live side by side and take
their turns: in every round each arrangement trains the same batches, its processes starting
together, while the others wait. What counts is examples a second of all processes together.

    python bench/two_processes.py
    python bench/two_processes.py --model bert-base --batches 4 --json two.json
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any, NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class Arrangement(NamedTuple):
    """How many processes, with how many threads, train what."""

    processes: int
    threads: int
    variant: str

    @property
    def name(self) -> str:
        """As the tables have it."""
        return f"{self.variant}: {self.processes} x {self.threads} thread(s)"


def arranged(cores: int, variants: list[str]) -> list[Arrangement]:
    """All cores for one process, and a process for each core."""
    return [a for v in variants for a in (Arrangement(1, cores, v), Arrangement(cores, 1, v))]


def serve(
    pipe: Connection, barrier: Barrier, one: Arrangement, seed: int, options: argparse.Namespace
) -> None:
    """A process: makes its side, says so, and trains whenever it is told to."""
    import torch
    from sides import VARIANTS, side
    from steps import quiet
    from workload import Work, grouped_by_length

    quiet()
    torch.set_num_threads(one.threads)
    work = Work(options.model, options.folder, options.task)
    batches = grouped_by_length(work.encoded.lengths, work.shape.batch, options.batches)
    trained_side = side(work, options.method, VARIANTS[one.variant], seed=seed)
    pipe.send(sum(len(batch) for batch in batches))
    while pipe.recv():
        barrier.wait()
        begun = time.perf_counter()
        for number, batch in enumerate(batches):
            trained_side.step(batch, number)
        pipe.send(time.perf_counter() - begun)


class Team:
    """The processes of one arrangement."""

    def __init__(self, one: Arrangement, options: argparse.Namespace) -> None:
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(one.processes)
        self.pipes: list[Connection] = []
        self.processes = []
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = str(one.threads)
        for seed in range(1, one.processes + 1):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=serve, args=(theirs, barrier, one, seed, options), daemon=True
            )
            process.start()
            self.pipes.append(ours)
            self.processes.append(process)
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
        self.examples = sum(self.hear())

    def hear(self) -> list[Any]:
        """What every process answers."""
        answers = []
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            while not pipe.poll(1):
                if not process.is_alive():
                    raise SystemExit("a process of the benchmark has died")
            answers.append(pipe.recv())
        return answers

    def turn(self) -> float:
        """All processes train the batches once; seconds until the last one is done."""
        for pipe in self.pipes:
            pipe.send(True)
        return float(max(self.hear()))

    def end(self) -> None:
        """Let the processes go."""
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            pipe.send(False)
            process.join(30)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All arrangements in turn."""
    from turns import quartiles, ratio

    variants = options.variants.split(",")
    every = arranged(options.cores, variants)
    teams = {one.name: Team(one, options) for one in every}
    seconds: dict[str, list[float]] = {name: [] for name in teams}
    names = list(teams)
    for number in range(options.rounds + 1):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            took = teams[name].turn()
            if number:  # the first round warms up
                seconds[name].append(took / teams[name].examples)
    for team in teams.values():
        team.end()
    field, ours = (
        [one.name for one in every if one.variant.startswith("ours") == own]
        for own in (False, True)
    )
    speeds = {}
    for variant in variants:
        both = [one.name for one in every if one.variant == variant]
        if len(both) == 2:
            single, several = both
            speeds[f"{single} / {several}"] = ratio(seconds[single], seconds[several])
    if field and ours:
        best = {
            id(group): min(group, key=lambda n: statistics.median(seconds[n]))
            for group in (field, ours)
        }
        theirs, own = best[id(field)], best[id(ours)]
        speeds[f"fastest / fastest: {theirs} / {own}"] = ratio(seconds[theirs], seconds[own])
    return {
        "model": options.model,
        "task": options.task,
        "method": options.method,
        "seconds_per_example": seconds,
        "examples_per_second": {n: quartiles([1 / s for s in k]) for n, k in seconds.items()},
        "ratios": speeds,
    }


def tables(case: dict[str, Any]) -> Iterator[str]:
    """What was found, as text."""
    from turns import format_quartiles

    yield f"\n{case['model']}, {case['task']}, {case['method']}: examples/s of all processes"
    for name, value in case["examples_per_second"].items():
        yield f"  {name:<32} {format_quartiles(value, 1)}"
    for name, value in case["ratios"].items():
        yield f"  {name}: {format_quartiles(value)}"


def main(arguments: list[str] | None = None) -> None:
    """Measure what is asked for."""
    from sides import usual
    from turns import about, save
    from workload import model_folder

    from paretune.measuring.processor import count_usable_cores

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="minilm", help="minilm, e5-small, bert-base, a folder")
    parser.add_argument("--task", default="boolq")
    parser.add_argument("--method", default="lora")
    parser.add_argument("--variants", help="comma-separated; without (a) by default")
    parser.add_argument("--cores", type=int, default=max(2, count_usable_cores()))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(arguments)
    options.variants = options.variants or ",".join(name for name in usual() if name != "a")
    results = about(cores_used=options.cores, rounds=options.rounds, cases=[])
    with model_folder(options.model) as options.folder:
        results["cases"].append(measure(options))
    print("\n".join(tables(results["cases"][-1])), flush=True)
    save(results, options.json)


if __name__ == "__main__":
    main()
