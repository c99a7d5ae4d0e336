"""One run in a session: what it is given, its training state, and its outcome."""

from __future__ import annotations

from dataclasses import dataclass

from paretune.objectives.encoding import Encoded
from paretune.training.caches import Parts
from paretune.training.evaluation.evaluator import Evaluator
from paretune.training.fleet.shared_model import RunParameters
from paretune.training.runs.job import Job, Outcome
from paretune.training.runs.run_state import RunState


@dataclass(frozen=True)
class TrainerOptions:
    """How a trainer trains.

    Attributes:
        device: ``cpu``, ``cuda``, ``cuda:1`` ...
        checkpoint_seconds: least time between two checkpoints of a run.
        keep_bytes: trained weights of a final run up to this size are kept; None: of any size.
    """

    device: str = "cpu"
    checkpoint_seconds: float = 60.0
    keep_bytes: int | None = None


@dataclass(frozen=True)
class Attempt:
    """An attempt to train a run: with which micro-batch, and where its outcome is written."""

    job: Job
    micro_batch: int
    outcome: Outcome

    @classmethod
    def first(cls, job: Job) -> Attempt:
        """With the micro-batch that the study asks for."""
        training = job.run.training
        micro_batch = training.micro_batch or training.batch_size
        return cls(job, micro_batch, Outcome(result={"notes": []}))


@dataclass(eq=False)
class Slot:
    """A run in a session.

    Attributes:
        job: the run, and its callback.
        parameters: its trained parameters in the model.
        parts: its examples: train, selection, test.
        encoded: the same encoded, by the part's name.
        evaluator: scores its weights.
        state: of its training.
        outcome: what it leaves.
        closed: whether its outcome was handed over; its state is not saved any more.
    """

    job: Job
    parameters: RunParameters
    parts: Parts
    encoded: dict[str, Encoded]
    evaluator: Evaluator
    state: RunState
    outcome: Outcome
    closed: bool = False

    def add_seconds(self, phase: str, seconds: float) -> None:
        """Count wall-clock seconds of this run."""
        spent = self.outcome.measured.setdefault("wall_seconds", {})
        spent[phase] = spent.get(phase, 0.0) + seconds
