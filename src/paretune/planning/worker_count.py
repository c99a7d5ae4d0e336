"""How many workers train at once: one for each core, as long as memory bears their runs.

What a run needs is predicted (:mod:`paretune.planning.predicted_cost`). The count is what cores
allow and
the smallest of the coming runs fit in; a larger run is claimed only where it fits beside those that
run (:mod:`paretune.execution.memory_budget`), so nobody is killed for a choice of ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from paretune.measuring.processor import count_usable_cores, read_available_bytes

MEMORY_PREFIX = "memory/"
"""A setting of the store for each run: bytes of the worker that trains it."""
PROCESS_BYTES = 384 * 2**20
"""What a worker holds before it opens a model: its libraries (280 MiB of its own were measured)."""
MEMORY_SHARE = 3 / 4
"""Of the memory that is free, for runs: fleets have a quarter for what they hold beside a model,
and where none forms it is for what a prediction misses (docs/statistics.md)."""


@dataclass(frozen=True)
class WorkerCount:
    """How many train at once, and why.

    ``cores`` of them would have one each. ``memory_bytes`` is what their runs may take together,
    None where nobody asks (a GPU has one worker, and whoever says how many knows what they do);
    ``least_bytes`` and ``most_bytes``: what the smallest and the largest of the runs need.
    """

    count: int
    cores: int
    memory_bytes: int | None = None
    least_bytes: int = 0
    most_bytes: int = 0

    def beside(self, need: int) -> int:
        """How many runs with this need train at once."""
        if self.memory_bytes is None:
            return self.count
        return max(1, min(self.count, self.memory_bytes // need))


def worker_bytes(peak_bytes: int | None) -> int:
    """Bytes of a worker whose run is predicted to peak so far above it; None: without a model."""
    return PROCESS_BYTES + max(0, peak_bytes or 0)


def choose_worker_count(needs: Iterable[int], device: str, threads: int) -> WorkerCount:
    """As many workers as cores and memory allow; one on a GPU.

    Args:
        needs: of the runs to come (:func:`worker_bytes`).
        device: where they train.
        threads: of each worker.
    """
    if device != "cpu":
        return WorkerCount(1, 1)
    cores, memory = (
        max(1, count_usable_cores() // threads),
        int(MEMORY_SHARE * read_available_bytes()),
    )
    asked = sorted(needs)
    if not asked:
        return WorkerCount(cores, cores)
    fitting = sum(together <= memory for together in accumulate(asked))
    count = cores if fitting == len(asked) else min(cores, max(1, fitting))
    return WorkerCount(count, cores, memory, asked[0], asked[-1])
