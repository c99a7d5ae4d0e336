"""How many workers, and why, in words: for ``plan`` and ``run``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paretune.planning.worker_count import WorkerCount


def explain_worker_count(workers: WorkerCount) -> str:
    """One sentence on memory; nothing where nobody asked."""
    from paretune.reporting.text.formatting import format_bytes

    if workers.memory_bytes is None:
        return ""
    memory, most = format_bytes(workers.memory_bytes), format_bytes(workers.most_bytes)
    said = f"Memory for runs: {memory}; the largest is predicted to need {most}"
    if workers.most_bytes > workers.memory_bytes:
        return f"{said}: it trains with nothing beside it, and may not fit."
    if workers.count < workers.cores:
        cores = f"{workers.cores} cores would have work for as many"
        return f"{said}, so {workers.count} train at once where {cores}."
    if workers.count_fitting(workers.most_bytes) < workers.count:
        return f"{said}: runs wait where they would not fit beside others."
    return f"{said}."
