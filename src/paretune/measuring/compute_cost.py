"""What a run will do and hold, by first principles.

Apart from what is made of it (:mod:`paretune.analysis.resources.forecast`), since every worker
writes it, and none needs statistics for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paretune.store.record import Record


@dataclass(frozen=True)
class ComputeCost:
    """What a run will do and hold; nothing in it is measured.

    ``operations`` of one step; ``held_bytes``: weights, gradients, the optimiser's states and
    kept copies; ``saved_bytes``: what one forward pass keeps for its backward pass, by rule of
    thumb.
    """

    operations: float
    held_bytes: int
    saved_bytes: int

    @classmethod
    def from_record(cls, record: Record) -> ComputeCost | None:
        """As the record has it; None where an older version made it, or it trained no model."""
        given: Any = record.measured.get("work")
        if not isinstance(given, Mapping):
            return None
        return cls(float(given["operations"]), int(given["held_bytes"]), int(given["saved_bytes"]))
