"""A worker whose time is limited takes no run that would not end in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from paretune.planning.worker_count import SECONDS_PREFIX
from paretune.store import Storage

SAVE_SECONDS = 30.0
"""Kept at the end for giving back what is in hand, its checkpoint with it."""


@dataclass(frozen=True)
class TimeLimit:
    """When a worker ends.

    Attributes:
        until: by the monotonic clock, which all processes of a machine share; None: never.
        run_seconds: predicted seconds of runs by id. One without a prediction may start: what is in
            hand at the end goes on from its checkpoint.
    """

    until: float | None = None
    run_seconds: Mapping[str, float] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def load(cls, store: Storage, until: float | None) -> TimeLimit:
        """With the predictions that the store has now."""
        if until is None:
            return cls()
        seconds = store.get_settings(SECONDS_PREFIX)
        return cls(until, {run_id: float(value) for run_id, value in seconds.items()})

    @property
    def seconds_left(self) -> float:
        """For runs; negative when it is over."""
        return float("inf") if self.until is None else self.until - SAVE_SECONDS - self.clock()

    @property
    def is_over(self) -> bool:
        """Whether what is in hand has to be given back."""
        return self.seconds_left <= 0

    def admits(self, run_id: str) -> bool:
        """Whether the run is predicted to end in time."""
        return not self.is_over and self.run_seconds.get(run_id, 0.0) <= self.seconds_left
