"""How many worker processes train a study, on what device: for ``plan`` and ``run``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, Unpack

if TYPE_CHECKING:
    from paretune.planning.predicted_cost import CostPredictor
    from paretune.planning.worker_count import WorkerCount
    from paretune.study import Run


class WorkerOptions(TypedDict, total=False):
    """How many processes train, on what.

    Attributes:
        workers: processes that train at once; as many as cores and memory allow by default.
        threads: of each worker; 1 by default.
        device: ``auto`` (the default), ``cpu``, ``cuda``, ``cuda:1`` ...
        online: models and data may be downloaded from the hub.
    """

    workers: int | None
    threads: int
    device: str
    online: bool


@dataclass(frozen=True)
class Workers:
    """The options with their defaults; ``device`` is one that is here."""

    workers: int | None
    threads: int
    device: str
    offline: bool

    @classmethod
    def resolve(cls, **options: Unpack[WorkerOptions]) -> Workers:
        """Fill in the defaults; ParetuneError where there is no such device."""
        from paretune.measuring.devices import resolve_device

        return cls(
            workers=options.get("workers"),
            threads=options.get("threads", 1),
            device=resolve_device(options.get("device", "auto")),
            offline=not options.get("online", False),
        )

    def count(self, runs: Iterable[Run], predictor: CostPredictor) -> WorkerCount:
        """How many train at once: the number of the user, or what cores and memory allow.

        Cost measurements run one after the other and do not count.
        """
        from paretune.planning.worker_count import WorkerCount, choose_worker_count, worker_bytes

        if self.workers:
            return WorkerCount(self.workers, self.workers)
        needs = [
            worker_bytes(predictor.predict_peak_bytes(run)) for run in runs if run.stage != "cost"
        ]
        return choose_worker_count(needs, self.device, self.threads)


def explain_worker_count(workers: WorkerCount) -> str:
    """One sentence on how memory limits the workers; empty where it does not."""
    from paretune.reporting.text.formatting import format_bytes

    if workers.memory_bytes is None:
        return ""
    memory, most = format_bytes(workers.memory_bytes), format_bytes(workers.most_bytes)
    sentence = f"Memory for runs: {memory}; the largest is predicted to need {most}"
    if workers.most_bytes > workers.memory_bytes:
        return f"{sentence}: it trains alone, and may not fit."
    if workers.count < workers.cores:
        return f"{sentence}, so {workers.count} train at once on {workers.cores} cores."
    if workers.count_fitting(workers.most_bytes) < workers.count:
        return f"{sentence}: runs wait while they would not fit beside others."
    return f"{sentence}."
