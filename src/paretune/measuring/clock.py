"""Seconds of a training step: the median after warm-up, with its quartiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

WARM_UP_STEPS = 5
"""Steps that are not counted: kernels are prepared, caches filled, clocks raised."""
MIN_STEPS, MAX_STEPS = 5, 30
"""Fewest steps for quartiles, and most steps that are timed."""
QUARTILE_TOLERANCE = 0.1
"""A median is stable when both quartiles lie within this share of it."""


class StepClock:
    """Times steps one by one; on CUDA it waits for the device at both ends.

    Use::

        clock = StepClock("cpu")
        for batch in batches:
            with clock.step():
                ...
        clock.summary()
    """

    def __init__(self, device: str = "cpu", warm_up: int = WARM_UP_STEPS) -> None:
        self.device = device
        self.warm_up = warm_up
        self.seconds: list[float] = []

    @contextmanager
    def step(self) -> Iterator[None]:
        """Time what is inside; a step that raises is not counted."""
        self._wait()
        begun = time.perf_counter()
        yield
        self._wait()
        self.seconds.append(time.perf_counter() - begun)

    def _wait(self) -> None:
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize(self.device)
        elif self.device.startswith("mps"):
            import torch

            torch.mps.synchronize()

    @property
    def counted_seconds(self) -> list[float]:
        """Seconds of the steps after warm-up."""
        return self.seconds[self.warm_up :]

    @property
    def is_stable(self) -> bool:
        """Whether the quartiles are close to the median."""
        summary = self.summary()
        if summary is None or summary["n"] < MIN_STEPS:
            return False
        median, tolerance = summary["median"], QUARTILE_TOLERANCE * summary["median"]
        return median - summary["q1"] <= tolerance and summary["q3"] - median <= tolerance

    def repeat(self, once: Callable[[], object], limit_seconds: float) -> dict[str, float | int]:
        """Time ``once`` until the median is stable, :data:`MAX_STEPS` are timed, or time is up.

        A step is begun only if it is expected to end in time; but two always are, so that the first
        is warm-up. If time is up before warm-up is over, the last steps count. Returns the summary,
        and ``timed_out`` where time was up before the median was stable.
        """
        begun, timed_out = time.perf_counter(), False
        while not self.is_stable and len(self.counted_seconds) < MAX_STEPS:
            with self.step():
                once()
            spent = time.perf_counter() - begun
            timed_out = spent + self.seconds[-1] > limit_seconds and len(self.seconds) > 1
            if timed_out:
                self.warm_up = min(self.warm_up, len(self.seconds) - 1)
                break
        summary = self.summary()
        assert summary is not None  # noqa: S101  (two were timed at least)
        return {**summary, **({"timed_out": True} if timed_out and not self.is_stable else {})}

    def median(self) -> float:
        """Seconds of a step.

        Raises:
            ValueError: no step came after warm-up.
        """
        summary = self.summary()
        if summary is None:
            raise ValueError(f"{len(self.seconds)} steps, {self.warm_up} of them warm-up")
        return float(summary["median"])

    def summary(self) -> dict[str, float | int] | None:
        """``median``, ``q1``, ``q3`` in seconds and ``n``; None if no step came after warm-up."""
        if not self.counted_seconds:
            return None
        q1, median, q3 = (float(q) for q in np.quantile(self.counted_seconds, (0.25, 0.5, 0.75)))
        return {"median": median, "q1": q1, "q3": q3, "n": len(self.counted_seconds)}
