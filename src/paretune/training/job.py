"""A run that is to be trained with others, as whoever claims runs hands it over. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from paretune.study import Run

Report = Callable[[dict[str, Any]], None]


class Job(Protocol):
    """A run to be trained, and who is told how it goes."""

    @property
    def run(self) -> Run:
        """What to do."""

    @property
    def checkpoint(self) -> Path:
        """Where its state lies and is to be kept."""

    @property
    def report(self) -> Report:
        """Told about every step; raises where the run must not go on."""
