"""Training: read ``loop.py`` first, then ``forward/passes.py``.

``trainer`` trains a run, whose progress is its ``run_state``. ``forward/`` runs examples through
the model, ``evaluation/`` scores them. ``checkpoint`` and ``interruption`` are for what interrupts
a run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TrainerOptions:
    """Options of a trainer.

    Attributes:
        checkpoint_seconds: least time between two checkpoints of a run.
        keep_bytes: trained weights of a final run up to this size are kept; None: of any size.
    """

    device: str = "cpu"
    checkpoint_seconds: float = 60.0
    keep_bytes: int | None = None


@dataclass
class Outcome:
    """The outcome of a run; keys as in :mod:`paretune.store.record`.

    Attributes:
        result: what comes out the same when the run is repeated.
        measured: what belongs to this machine and moment.
        blobs: large values; the result names them by sha256.
    """

    result: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
