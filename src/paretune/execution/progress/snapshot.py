"""A study at one moment, and the time that is left: what similar runs took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from paretune.execution.progress import format_duration
from paretune.store import RunStatus
from paretune.study import DEFAULT_COST_SECONDS

MIN_SHARE_DONE = 0.1
"""From this share of its steps on, a running run counts for the estimate of similar ones."""
COST_STEPS, MIN_COST_STEPS = 10, 3
"""Steps of training that a cost amounts to, before one has shown what it takes."""
START_SECONDS = 5.0
"""Until the process of a cost has opened a model."""


@dataclass(frozen=True)
class Snapshot:
    """A study at one moment.

    Attributes:
        seconds_left: estimated from runs that ended or are well under way; None before them.
    """

    ended: int
    total: int
    running: tuple[RunStatus, ...]
    seconds_left: float | None

    @property
    def time_left(self) -> str:
        """``about 12 min left``, or nothing where that is not known."""
        return f"about {format_duration(self.seconds_left)} left" if self.seconds_left else ""


def take_snapshot(
    statuses: Sequence[RunStatus], workers: int, planned: int, seconds_left: float | None = None
) -> Snapshot:
    """The study at this moment, with its time left.

    Args:
        workers: how many runs train at once; costs are measured one after the other.
        planned: how many runs the whole study will have, as far as that is known; 0: unknown.
        seconds_left: an estimate of just now, to be taken again; None: it is estimated.
    """
    total = max(len(statuses), planned)
    if seconds_left is None:
        seconds_left = _estimate_seconds_left(statuses, workers, total - len(statuses))
    return Snapshot(
        ended=sum(status.ended for status in statuses),
        total=total,
        running=tuple(s for s in statuses if s.state == "running" and not s.is_claimable),
        seconds_left=seconds_left,
    )


def _collect_durations(statuses: Sequence[RunStatus]) -> dict[object, list[float]]:
    """Seconds of runs that ended or are well under way, by :func:`_similarity_keys`.

    Under ``("a step", ...)`` those of one training step. Baselines that train nothing are left out.
    """
    durations: dict[object, list[float]] = defaultdict(list)
    for status in statuses:
        seconds = _estimate_run_seconds(status)
        if seconds is None:
            continue
        steps = status.progress.get("steps")
        for key in _similarity_keys(status):
            durations[key].append(seconds)
            if steps and status.stage != "cost":
                durations["a step", key].append(seconds / float(steps))
    return dict(durations)


def _estimate_seconds_left(
    statuses: Sequence[RunStatus], workers: int, unknown_runs: int
) -> float | None:
    """Each run is expected to take what similar runs took: of its cell, of its method, or any.

    None where runs are to train and none has shown what it takes, or where a cost is to be measured
    and neither a cost nor a training run has ended. ``unknown_runs`` are planned, but not known.
    """
    durations = {key: fmean(values) for key, values in _collect_durations(statuses).items()}
    training = durations.get("train")
    remaining = [s for s in statuses if not s.ended and not _trains_nothing(s)]
    trains = unknown_runs or any(status.stage != "cost" for status in remaining)
    if not durations or (training is None and trains):
        return None
    training_seconds, cost_seconds = 0.0, 0.0
    for status in remaining:
        key = next((key for key in _similarity_keys(status) if key in durations), None)
        expected = _estimate_cost_seconds(status, durations) if key is None else durations[key]
        if expected is None:
            return None
        expected *= 1 - _share_done(status)
        if status.stage == "cost":
            cost_seconds += expected
        else:
            training_seconds += expected
    training_seconds += unknown_runs * (training or 0.0)
    return cost_seconds + training_seconds / max(1, workers)


def _estimate_cost_seconds(status: RunStatus, durations: Mapping[object, float]) -> float | None:
    """Seconds of a cost before any has been measured: some steps of similar runs, within its limit.

    Where runs end before they report steps, a cost is expected to take as long as one of them.
    """
    limit = 1.5 * DEFAULT_COST_SECONDS
    keys = ((status.run.cell, "final"), (status.run.cell, "tune"), "train")
    for key in keys:
        if ("a step", key) in durations:
            step = durations["a step", key]
            return START_SECONDS + min(COST_STEPS * step, max(limit, MIN_COST_STEPS * step))
    for key in keys:
        if key in durations:
            return START_SECONDS + min(limit, durations[key])
    return None


def _estimate_run_seconds(status: RunStatus) -> float | None:
    """What a run took, or will have taken; None where nothing is known yet.

    ``seconds`` are those of its last attempt, which may have resumed from a checkpoint.
    """
    if _trains_nothing(status) or status.seconds is None or status.state == "failed":
        return None
    resumed_at, step = (int(status.progress.get(name, 0)) for name in ("resumed_at", "step"))
    if status.state == "done":
        if not resumed_at or status.stage == "cost":  # a cost always starts over
            return status.seconds
        return status.seconds * step / (step - resumed_at) if step > resumed_at else None
    steps = status.progress.get("steps")
    share = (step - resumed_at) / float(steps) if steps and status.state == "running" else 0.0
    return status.seconds / share if share >= MIN_SHARE_DONE else None


def _share_done(status: RunStatus) -> float:
    """Of its steps, in this attempt and in those that it resumed from."""
    if status.stage == "cost" and status.state != "running":
        return 0.0
    steps, step = status.progress.get("steps"), status.progress.get("step", 0)
    return min(1.0, float(step) / float(steps)) if steps else 0.0


def _trains_nothing(status: RunStatus) -> bool:
    return status.run.learning_rate is None


def _similarity_keys(status: RunStatus) -> tuple[object, ...]:
    kind = "cost" if status.stage == "cost" else "train"
    return ((status.run.cell, status.stage), (status.run.method.key, status.stage), kind)
