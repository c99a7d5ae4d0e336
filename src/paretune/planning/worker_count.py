"""How many workers train at once on a device: one for each core, as long as runs fit in memory.

The need of a run is predicted (:mod:`paretune.planning.predicted_cost`). The count is what cores
allow and the smallest of the coming runs fit in; a larger run is claimed only where it fits beside
those that run (:mod:`paretune.execution.memory_budget`), so none is killed for a choice of ours.
On a GPU one worker trains; a user may ask for more, and then they share the card's memory likewise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from paretune.measuring.devices import query_gpu
from paretune.measuring.processor import count_usable_cores, read_available_bytes

MEMORY_PREFIX = "memory/"
"""A setting of the store for each run: bytes of the worker that trains it."""
PROCESS_BYTES = 384 * 2**20
"""Bytes of a worker before it opens a model: its libraries (280 MiB were measured)."""
MEMORY_SHARE = 3 / 4
"""Of the free memory, for runs: fleets have a quarter for what they hold beside a model, and
without fleets it is for errors of the prediction (docs/how-it-works/measuring.md)."""


@dataclass(frozen=True)
class WorkerCount:
    """How many workers train at once on a device, and why.

    Attributes:
        cores: how many would where memory is no matter.
        memory_bytes: for all runs together; None where memory does not limit them (a GPU has one
            worker unless more are asked for, and a user who gives a number for a CPU knows what
            they do).
        most_bytes: need of the largest run.
    """

    count: int
    cores: int
    memory_bytes: int | None = None
    most_bytes: int = 0
    device: str = "cpu"

    def count_fitting(self, run_bytes: int) -> int:
        """How many runs with this need train at once."""
        if self.memory_bytes is None:
            return self.count
        return max(1, min(self.count, self.memory_bytes // run_bytes))


def worker_bytes(peak_bytes: int | None) -> int:
    """Bytes of a worker, from the predicted peak of its run; None: a run without a model."""
    return PROCESS_BYTES + max(0, peak_bytes or 0)


def choose_worker_count(
    run_bytes: Iterable[int],
    device: str,
    threads: int,
    workers: int | None = None,
    reserved_cores: int = 0,
) -> WorkerCount:
    """As many workers as a user asks for; or as cores and memory allow, and one on a GPU.

    Args:
        run_bytes: needs of the coming runs (:func:`worker_bytes`).
        workers: the number of the user, who knows what a CPU can bear; on a GPU, where a run that
            does not fit fails or is halved, runs wait for memory all the same.
        reserved_cores: cores that workers of other devices need.
    """
    needs = sorted(run_bytes)
    if device.startswith("cuda") and (workers or 1) > 1 and needs:
        memory = int(MEMORY_SHARE * query_gpu(device).free_bytes)
        return WorkerCount(workers or 1, workers or 1, memory, needs[-1], device)
    if workers or device != "cpu":
        return WorkerCount(workers or 1, workers or 1, device=device)
    cores, memory = (
        max(1, (count_usable_cores() - reserved_cores) // threads),
        int(MEMORY_SHARE * read_available_bytes()),
    )
    if not needs:
        return WorkerCount(cores, cores)
    fitting = sum(total <= memory for total in accumulate(needs))
    count = cores if fitting == len(needs) else min(cores, max(1, fitting))
    return WorkerCount(count, cores, memory, needs[-1])
