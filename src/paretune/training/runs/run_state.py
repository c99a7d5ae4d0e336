"""One run in training: its progress, best weights and early stopping."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from paretune.data.batch import shuffle_order
from paretune.errors import StaleClaimError
from paretune.measuring.machine import describe_device
from paretune.objectives import ModelPredictions
from paretune.objectives.encoding import Encoded
from paretune.store import Claim
from paretune.training.caches import TEST_PARTS, Parts
from paretune.training.evaluation.evaluator import Evaluator
from paretune.training.fleet import RunParameters
from paretune.training.forward.micro_batch import StepBatch
from paretune.training.recovery.checkpoint import CheckpointFile, Progress
from paretune.training.recovery.interruption import defer_interrupts
from paretune.training.runs.optimiser import DivergedError, RunOptimizer, learning_rate_factor
from paretune.training.runs.outcome import Outcome

Scores = dict[str, float]
"""``primary`` (the higher the better) and ``loss`` on the selection part."""


@dataclass(eq=False)
class RunState:
    """One run in training, from its start or from its checkpoint.

    Attributes:
        parameters: without any trained ones, there is nothing to do.
        batch: its data and how their loss is computed, without examples.
        encoded: its parts, by name.
        outcome: what it leaves; written when it has ended.
        num_classes: possible answers.
        diverged: at which step and why.
        lost: set where another worker has the run.
        closed: whether its outcome was handed over; its state is not saved any more.
    """

    claim: Claim
    parameters: RunParameters
    batch: StepBatch
    parts: Parts
    encoded: Mapping[str, Encoded]
    evaluator: Evaluator
    checkpoint: CheckpointFile
    outcome: Outcome
    num_classes: int
    device: str = "cpu"
    best: dict[str, Tensor] = field(default_factory=dict, init=False)
    diverged: str | None = field(default=None, init=False)
    lost: StaleClaimError | None = field(default=None, init=False)
    closed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.run, self.trained = self.claim.run, self.parameters.trained
        training = self.run.training
        self.per_epoch = -(-len(self.batch.data.labels) // training.batch_size)
        self.steps = training.max_steps or training.epochs * self.per_epoch
        self.eval_every = min(training.eval_every or self.per_epoch, self.steps)
        self.progress = Progress(micro_batch=self.batch.micro_batch)
        if self.trained:
            factors = self.parameters.learning_rate_factors
            self.optimizer = RunOptimizer(self.trained, training, self.num_classes, factors)
            adamw, micro_batch = self.optimizer.adamw, self.batch.micro_batch
            if (resumed := self.checkpoint.load(self.trained, adamw, micro_batch)) is not None:
                self.progress, self.best = resumed
            device = " ".join(describe_device(self.device).values())
            if self.progress.devices[-1:] != [device]:
                self.progress.devices.append(device)
        self._stopped_early = not self.trained or self._out_of_patience
        self.resumed_at = self.progress.step

    @property
    def finished(self) -> bool:
        """Whether no further step is to be taken."""
        ended = self._stopped_early or self.progress.step >= self.steps
        return ended or self.diverged is not None or self.lost is not None

    @property
    def needs_evaluation(self) -> bool:
        """Whether the weights after the last step are due to be scored."""
        step, curve = self.progress.step, self.progress.curve
        evaluated_at = curve[-1]["step"] if curve else 0
        scheduled = step % self.eval_every == 0 or step == self.steps
        alive = self.diverged is None and self.lost is None
        return alive and step > evaluated_at and scheduled

    @property
    def has_best_weights(self) -> bool:
        """Whether there are weights to predict with; not if it diverged before the first score."""
        return self.diverged is None or bool(self.best)

    def next_batch(self) -> StepBatch:
        """The examples of the next step; none where the run takes no step now."""
        indices: list[int] = []
        if not self.finished and not self.needs_evaluation:
            epoch, place = divmod(self.progress.step, self.per_epoch)
            size = self.run.training.batch_size
            shuffled = shuffle_order(len(self.batch.data.labels), self.run.seed, epoch)
            indices = shuffled[place * size : (place + 1) * size]
        return replace(self.batch, indices=indices, step=self.progress.step)

    def step(self, losses: Tensor) -> None:
        """Change the weights by the gradients, and record the step with its loss.

        ``losses``: what each pass adds to it, in nats; (passes,).
        """
        run, step, training = self.run, self.progress.step, self.run.training
        factor = learning_rate_factor(step, self.steps, training.warmup_fraction, training.schedule)
        if step == 0 and run.stage == "tune" and run.method.found_by_search:
            self.progress.first_gradients = measure_gradients(self.trained)
        with self._catching_divergence():
            rate = (run.learning_rate or 0.0) * factor
            loss = self.optimizer.step(step, rate, losses)
            self.progress.losses.append(loss)
            self.progress.step += 1
            step_report = {"step": self.progress.step, "steps": self.steps, "loss": loss}
            try:
                self.claim.report({**step_report, "resumed_at": self.resumed_at})
            except StaleClaimError as error:
                self.lost = error
        self.optimizer.zero_grad()

    def evaluate(self) -> None:
        """Score the present weights, extend the curve, and keep them if they are the best so far.

        The best weights are a copy, except after the last step. A selection loss that is not finite
        is divergence, too.
        """
        with self._catching_divergence():
            scores = self.evaluator.score_selection()
            if not math.isfinite(scores["loss"]):
                why = f"the selection loss is {scores['loss']}"
                raise DivergedError(self.progress.step, why)
            with defer_interrupts():
                self._record_scores(scores)

    def save_if_due(self) -> None:
        """Write the checkpoint, where the last one is old enough and the run goes on."""
        if not self._stopped_early and self.checkpoint.is_due:
            self.save()

    def save(self) -> None:
        """Write the checkpoint now, as after the last whole step."""
        alive = self.diverged is None and self.lost is None
        if self.trained and self.progress.step and alive:
            with defer_interrupts():
                self.checkpoint.save(self.progress, self.trained, self.best, self.optimizer.adamw)

    def finish(self) -> None:
        """Put the best weights back."""
        copy_tensors(self.best, self.trained)

    def predict(self) -> dict[str, ModelPredictions]:
        """Predictions by the best weights, once they are back, for the parts that are reported."""
        predictions: dict[str, ModelPredictions] = {}
        if self.has_best_weights:
            predictions["selection"] = self.evaluator.predict_selection(self.progress)
            for part in TEST_PARTS:
                if self.parts.named(part):
                    predictions[part] = self.evaluator.predict(part)
        return predictions

    def add_seconds(self, phase: str, seconds: float) -> None:
        """Count wall-clock seconds of this run."""
        spent = self.outcome.measured.setdefault("wall_seconds", {})
        spent[phase] = spent.get(phase, 0.0) + seconds

    @contextlib.contextmanager
    def _catching_divergence(self) -> Iterator[None]:
        """A run that diverges in the block is finished, and its outcome says so."""
        try:
            yield
        except DivergedError as error:
            self.diverged = str(error)

    def _record_scores(self, scores: Scores) -> None:
        progress = self.progress
        since = progress.curve[-1]["step"] if progress.curve else 0
        losses = progress.losses[since : progress.step]
        progress.curve.append(
            {
                "step": progress.step,
                "epoch": (progress.step - 1) // self.per_epoch + 1,
                "loss": sum(losses) / len(losses),
                "selection": scores,
            }
        )
        if progress.best_step < 0 or is_better(scores, progress.best_scores):
            progress.best_step, progress.best_scores = progress.step, scores
            progress.without_gain = 0
            self._keep_best(last=progress.step == self.steps)
        else:
            progress.without_gain += 1
        self._stopped_early = self._out_of_patience

    @property
    def _out_of_patience(self) -> bool:
        patience = self.run.training.patience
        return patience is not None and self.progress.without_gain >= patience

    def _keep_best(self, *, last: bool) -> None:
        if last:
            self.best = {name: p.detach() for name, p in self.trained.items()}
        elif not self.best:
            self.best = copy_to_cpu(self.trained)
        else:
            copy_tensors(self.trained, self.best)  # new memory for a model costs more than copying


def measure_gradients(trained: Mapping[str, nn.Parameter]) -> dict[str, float]:
    """By name, the squared norm of a tensor's gradient, divided by its size."""
    return {
        name: float(p.grad.float().square().mean())
        for name, p in trained.items()
        if p.grad is not None
    }


def is_better(new: Scores, old: Scores) -> bool:
    """Whether the first selection scores are better: by the metric, then by the loss."""
    return (new["primary"], -new["loss"]) > (old["primary"], -old["loss"])


@torch.no_grad()
def copy_to_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU; of GPU tensors in pinned memory, into which further copies are fast."""
    return {name: _copy_tensor(tensor) for name, tensor in tensors.items()}


@torch.no_grad()
def copy_tensors(values: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
    """Copy values into the tensors of the same names, on any device."""
    for name, value in values.items():
        into[name].copy_(value)


def _copy_tensor(tensor: Tensor) -> Tensor:
    if tensor.device.type == "cpu":
        return tensor.detach().clone()
    pinned = tensor.device.type == "cuda"
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=pinned)
    return copy.copy_(tensor)
