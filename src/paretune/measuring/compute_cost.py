"""What a run computes and keeps, by first principles, as its record has it.

Computed by :mod:`paretune.measuring.cost_estimation`, read by
:mod:`paretune.analysis.forecast`. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paretune.store.record import Record


@dataclass(frozen=True)
class ComputeCost:
    """Nothing of it is measured.

    Attributes:
        held_bytes: weights, gradients, optimiser states and copies of the best weights.
        saved_bytes: what one forward pass saves for its backward pass, by a rule of thumb.
        moved_bytes: what one step reads and writes between its products; 0 in records of 0.2.
    """

    operations: float
    held_bytes: int
    saved_bytes: int
    moved_bytes: int = 0

    @classmethod
    def from_record(cls, record: Record) -> ComputeCost | None:
        """The cost that a record has; None where it trained no model."""
        work: Any = record.measured.get("work")
        if not isinstance(work, Mapping):
            return None
        return cls(
            operations=float(work["operations"]),
            held_bytes=int(work["held_bytes"]),
            saved_bytes=int(work["saved_bytes"]),
            moved_bytes=int(work.get("moved_bytes", 0)),
        )
