"""Claims, statuses of runs, and study files as the store has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from paretune.study import Run

State = Literal["todo", "running", "done", "failed"]


Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Claim:
    """The right to execute one run, for ``lease_seconds`` from its last renewal.

    Attributes:
        run: what to do, with a concrete precision.
        checkpoint: where its state is saved.
        report: called with ``step``, ``steps``, ``loss`` after every step, and at times with
            ``note``. Raises where the run must not go on: StaleClaimError ends this run only.
        attempt: counts the claims of the run; a writer with an older number is refused.
    """

    run: Run
    checkpoint: Path
    report: Report = lambda progress: None
    run_id: str = ""
    owner: str = ""
    attempt: int = 0
    lease_seconds: float = 0.0


@dataclass(frozen=True)
class RunStatus:
    """The status of one run, for progress.

    Attributes:
        run: what to do, as this study asks for it.
        state: ``todo``, ``running``, ``done`` or ``failed``.
        is_claimable: whether a claim would take it: todo or abandoned by its worker, and not kept
            waiting by a cost that is measured, or by what would disturb one.
        owner: process that holds it (:mod:`paretune.owner`).
        progress: last reported ``step``, ``steps``, ``loss``, ``note``.
        seconds: wall-clock seconds of the last attempt; None before the first.
        outcome: as of :class:`~paretune.store.record.Record`; None before the end.
        score: primary score, on test where there is one, otherwise on the selection part.
        ended_at: seconds since 1970.
    """

    run_id: str
    run: Run
    state: State
    is_claimable: bool
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
