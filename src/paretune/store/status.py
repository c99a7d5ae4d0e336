"""What the store hands out beside records: claims, states, studies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from paretune.study import Run

State = Literal["todo", "running", "done", "failed"]


@dataclass(frozen=True)
class Claim:
    """The right to execute one run, for ``lease_seconds`` from its last renewal.

    ``attempt`` counts the claims of the run: whoever comes back with an old number is refused.
    """

    run_id: str
    run: Run
    owner: str
    attempt: int
    lease_seconds: float


@dataclass(frozen=True)
class RunStatus:
    """How a run stands, for progress. ``free``: a claim would take it (todo, or abandoned).

    ``seconds``: wall-clock seconds of the last attempt, so far or in all; None before the first.
    ``outcome`` as in :class:`~paretune.store.record.Record`, None before the end; ``score``: the
    primary score, on test where there is one, otherwise on the selection part. ``ended_at``:
    seconds since 1970.
    """

    run_id: str
    run: Run
    state: State
    free: bool
    owner: str | None
    attempt: int
    progress: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    outcome: str | None = None
    score: float | None = None
    message: str | None = None
    ended_at: float | None = None

    @property
    def stage(self) -> str:
        """``tune``, ``final`` or ``cost``."""
        return self.run.stage

    @property
    def ended(self) -> bool:
        """Whether the run is done or failed."""
        return self.state in ("done", "failed")


@dataclass(frozen=True)
class StudyEntry:
    """A study file as it was when it ran. ``created``: seconds since 1970; ``runs``: by state."""

    study_hash: str
    name: str
    text: str
    created: float
    runs: Mapping[str, int]
