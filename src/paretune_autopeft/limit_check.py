"""Whether a combination would exceed a limit of the study, predicted from one measurement."""

from __future__ import annotations

from dataclasses import dataclass

from paretune.measuring.costs import CostModel
from paretune.measuring.model_shape import describe_trained_part
from paretune.planning.predicted_cost import CostPredictor
from paretune.store.record import Record
from paretune.study import Limits, Run

MEASURED_LIMITS = frozenset({"memory", "time", "inference"})
"""Limits whose costs are predicted from a measurement."""


@dataclass(frozen=True)
class LimitCheck:
    """Predicts whether a combination would exceed a limit of the study, before it is trained.

    Trained parameters and saved bytes are counted. Peak memory, seconds and latency are predicted
    from a measurement of LoRA in all layers on the same model, task and machine: its bytes beside
    the counted ones, its seconds an operation, and its latency, in proportion to the parameters
    that every token goes through.

    Attributes:
        measured: the measurement of LoRA; None where no limit needs it.
    """

    predictor: CostPredictor
    limits: Limits
    measured: Record | None

    def exceeds(self, run: Run) -> bool:
        """Whether a run's method is predicted to exceed any limit.

        A cost without a prediction, since the measurement has failed, exceeds none.
        """
        limits = self.limits.by_axis.items()
        costs = ((self._predict(axis, run), limit) for axis, limit in limits)
        return any(cost is not None and cost > limit for cost, limit in costs)

    def _predict(self, axis: str, run: Run) -> float | None:
        """Predict a cost of a run that trains alone; a step takes as long as the measured work."""
        predictor, measured = self.predictor, self.measured
        if axis == "parameters":
            return predictor.count_trained(run)
        if axis == "saved":
            return 4 * predictor.count_trained(run)
        work = predictor.predict_work(run.model_copy(update={"stage": "cost"}))
        counted = work.held_bytes + work.saved_bytes
        if measured is None:
            return counted if axis == "memory" else None
        reference = predictor.predict_work(measured.run)
        if axis == "memory":
            if measured.peak_bytes is None:
                return counted
            rest = measured.peak_bytes - reference.held_bytes - reference.saved_bytes
            return CostModel(residual_bytes=rest).predict_peak_bytes(work)
        if axis == "time":
            step_seconds = measured.median_step_seconds
            if step_seconds is None:
                return None
            machine = CostModel(operations_per_second=reference.operations / step_seconds)
            return machine.predict_seconds(work, predictor.count_steps(run))
        inference = measured.measured.get("inference")
        if inference is None:
            return None
        share = self._count_passed(run) / self._count_passed(measured.run)
        return float(inference["unmerged_seconds_per_example"]) * share

    def _count_passed(self, run: Run) -> int:
        """Parameters that every token goes through."""
        loaded, shape = self.predictor.open_outline(run)
        part = describe_trained_part(run, loaded, self.predictor.count_trained(run))
        return shape.backbone_parameters + part.token_parameters
