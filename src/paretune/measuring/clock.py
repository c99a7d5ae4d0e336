"""Seconds of a training step: the median after warm-up, with its quartiles."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

WARM_UP = 5
"""Steps that are not counted: kernels are prepared, caches filled, clocks raised."""


class StepClock:
    """Times steps one by one; on CUDA it waits for the device at both ends.

    Use::

        clock = StepClock("cpu")
        for batch in batches:
            with clock.step():
                ...
        clock.summary()

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        warm_up: first steps that are not counted.
    """

    def __init__(self, device: str = "cpu", warm_up: int = WARM_UP) -> None:
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

    def median(self) -> float:
        """Seconds of a step.

        Raises:
            ValueError: no step came after warm-up.
        """
        found = self.summary()
        if found is None:
            raise ValueError(f"{len(self.seconds)} steps, {self.warm_up} of them warm-up")
        return float(found["median"])

    def summary(self) -> dict[str, float | int] | None:
        """``median``, ``q1``, ``q3`` in seconds and ``n``; None if no step came after warm-up."""
        counted = self.seconds[self.warm_up :]
        if not counted:
            return None
        q1, median, q3 = (float(q) for q in np.quantile(counted, (0.25, 0.5, 0.75)))
        return {"median": median, "q1": q1, "q3": q3, "n": len(counted)}
