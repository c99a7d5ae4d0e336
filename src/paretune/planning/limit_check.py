"""Whether a combination would exceed a limit of the study, before anything of it is trained.

Trained parameters and saved bytes are counted. Peak memory, seconds and latency are predicted from
a measurement of LoRA in all layers on the same model, task and machine: its bytes beside what is
counted, its seconds an operation, and its latency, in proportion to the parameters that every
token goes through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from paretune.measuring.cost_estimation import describe_trained_part
from paretune.planning.predicted_cost import CostPredictor
from paretune.store.record import Record
from paretune.study import Limits, Run


@dataclass(frozen=True)
class LimitCheck:
    """The limits of a study, and what predicts the costs that they are of.

    Attributes:
        measured: the measurement of LoRA; None where no limit needs it.
    """

    predictor: CostPredictor
    limits: Limits
    measured: Record | None

    MEASURED: ClassVar[frozenset[str]] = frozenset({"memory", "time", "inference"})
    """Costs that are predicted from a measurement."""

    def exceeds(self, run: Run) -> bool:
        """Whether a run's method is predicted to exceed any limit.

        A cost without a prediction, since the measurement has failed, exceeds none.
        """
        predict: Mapping[str, Callable[[Run], float | None]] = {
            "parameters": self.predictor.count_trained,
            "saved": self.predictor.predict_weight_bytes,
            "memory": self.predict_peak_bytes,
            "time": self.predict_seconds,
            "inference": self.predict_latency,
        }
        for axis, limit in self.limits.by_axis.items():
            cost = predict[axis](run)
            if cost is not None and cost > limit:
                return True
        return False

    def predict_peak_bytes(self, run: Run) -> float:
        """Peak memory of the run's longest batch, as a cost measurement has it."""
        work = self.predictor.predict_work(_as_cost(run))
        residual = 0.0
        if self.measured is not None and self.measured.peak_bytes is not None:
            own = self.predictor.predict_work(self.measured.run)
            residual = self.measured.peak_bytes - own.held_bytes - own.saved_bytes
        return work.held_bytes + work.saved_bytes + residual

    def predict_seconds(self, run: Run) -> float | None:
        """Of training one run alone, each step as long as the solo measurement's."""
        step = None if self.measured is None else self.measured.median_step_seconds
        if step is None or self.measured is None:
            return None
        own = self.predictor.predict_work(self.measured.run).operations
        share = self.predictor.predict_work(_as_cost(run)).operations / own
        return self.predictor.count_steps(run) * step * share

    def predict_latency(self, run: Run) -> float | None:
        """Seconds of one example in inference, not merged."""
        inference = None if self.measured is None else self.measured.measured.get("inference")
        if inference is None or self.measured is None:
            return None
        share = self._count_passed(run) / self._count_passed(self.measured.run)
        return float(inference["unmerged_seconds_per_example"]) * share

    def _count_passed(self, run: Run) -> int:
        """Parameters that every token goes through."""
        outline = self.predictor.open_outline(run)
        trained = self.predictor.count_trained(run)
        own = describe_trained_part(run, outline.loaded, trained).token_parameters
        return outline.shape.backbone_parameters + own


def _as_cost(run: Run) -> Run:
    return run.model_copy(update={"stage": "cost"})
