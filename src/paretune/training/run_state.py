"""One run in training: its progress, best weights, early stopping, optimizer and learning rate."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from paretune.data.batch import shuffle_order
from paretune.data.example import Dataset
from paretune.measuring.machine import describe_device
from paretune.objectives import ModelPredictions
from paretune.objectives.encoding import Encoded
from paretune.preparation import TEST_PARTS, Parts
from paretune.store import Claim
from paretune.study import Training
from paretune.study.run import is_trial
from paretune.training import Outcome
from paretune.training.checkpoint import CheckpointFile, RunProgress
from paretune.training.evaluation.evaluator import Evaluator, write_scores
from paretune.training.forward.passes import StepBatch
from paretune.training.interruption import defer_interrupts
from paretune.training.prepare import PreparedModel
from paretune.training.word_tables import WordTable, replace_tables

LOSS_CEILING = 50.0
"""A mean loss this many times that of a uniform answer counts as blown up.

The mean answer of a regression has a loss of a half, less than a uniform answer of two classes.
"""


class DivergedError(Exception):
    """The run blew up: the loss or a gradient is not finite, or the loss exceeds the ceiling."""

    def __init__(self, step: int, why: str) -> None:
        self.step, self.why = step, why
        super().__init__(f"step {step}: {why}")


def learning_rate_factor(
    step: int,
    total: int,
    warmup_fraction: float,
    kind: Literal["linear", "cosine", "constant"],
) -> float:
    """The factor of the learning rate at ``step`` (0-based) of ``total`` steps.

    Linear warm-up from 0 over the first ``warmup_fraction`` of the steps (rounded up), then linear
    or cosine decay to 0, or none. The values equal those of ``transformers``' schedules.
    """
    warmup = math.ceil(warmup_fraction * total)
    if step < warmup:
        return step / max(1, warmup)
    if kind == "constant":
        return 1.0
    progress = (step - warmup) / max(1, total - warmup)
    if kind == "cosine":
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))
    return max(0.0, 1.0 - progress)


class RunOptimizer:
    """The optimizer of one run.

    Args:
        num_classes: possible answers; the loss at which a run has diverged depends on it.
        learning_rate_factors: by name, where a parameter's learning rate differs.
        tables: those of which ``trained`` has the rows that occur.
    """

    def __init__(
        self,
        trained: Mapping[str, nn.Parameter],
        training: Training,
        num_classes: int,
        learning_rate_factors: Mapping[str, float] | None = None,
        tables: Sequence[WordTable] = (),
    ) -> None:
        self.trained, self.max_grad_norm = trained, training.max_grad_norm
        self.num_classes = num_classes
        self.adamw = make_adamw(trained, training.weight_decay, learning_rate_factors)
        self._tables = [
            (table, group)
            for table in tables
            for group in self.adamw.param_groups
            if any(parameter is table.rows for parameter in group["params"])
        ]

    def step(self, step: int, learning_rate: float, losses: Tensor) -> float:
        """Clip the gradients that are there, change the weights, and drop the gradients.

        Args:
            losses: what each pass adds to the mean loss, in nats; (passes,).

        Returns:
            The mean loss of the step.

        Raises:
            DivergedError: the loss or the gradient blew up; the weights are as they were.
        """
        parameters, ceiling = list(self.trained.values()), self.max_grad_norm
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        # Under the ceiling a CPU scales nothing: no pass over all gradients to multiply them by 1.
        # On another device the comparison would wait for it, and there the factor is at most 1.
        if ceiling is not None and (norm.device.type != "cpu" or not norm <= ceiling):
            torch.nn.utils.clip_grads_with_norm_(parameters, ceiling, norm)
        # The only place in a step that waits for the device: whether the run has blown up is known
        # before its weights change.
        *passes, norm_value = torch.cat([losses, norm[None].to(losses)]).tolist()
        loss = float(sum(passes))
        highest = LOSS_CEILING * math.log(max(2, self.num_classes))
        if not math.isfinite(loss):
            raise DivergedError(step, f"the loss is {loss}")
        if not math.isfinite(norm_value):
            raise DivergedError(step, f"the gradient norm is {norm_value}")
        if loss > highest:
            raise DivergedError(step, f"the loss is {loss:.1f}, above {highest:.0f}")
        for group in self.adamw.param_groups:
            group["lr"] = learning_rate * group["rate_factor"]
        self.adamw.step()
        self.adamw.zero_grad()
        for table, group in self._tables:
            table.shrink(1 - group["lr"] * group["weight_decay"])
        return loss


def make_adamw(
    trained: Mapping[str, nn.Parameter],
    weight_decay: float,
    learning_rate_factors: Mapping[str, float] | None = None,
) -> torch.optim.AdamW:
    """AdamW with decay on matrices only: biases and normalisation are left alone."""
    factors = learning_rate_factors or {}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        decay = 0.0 if name.endswith("bias") or "norm" in name.lower() else weight_decay
        groups.setdefault((decay, factors.get(name, 1.0)), []).append(parameter)
    ordered = sorted(groups.items(), key=lambda item: (-item[0][0], item[0][1]))
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": decay, "rate_factor": factor}
            for (decay, factor), parameters in ordered
        ],
        lr=0.0,
        fused=True,
    )


@dataclass(eq=False)
class RunState:
    """One run in training, from its start or from its checkpoint.

    Attributes:
        prepared: its model; without any trained parameters, there is nothing to do.
        batch: its data and how their loss is computed, without examples.
        encoded: its parts, by name.
        outcome: what it leaves; written when it has ended.
        num_classes: possible answers.
        tables: of words, of which the rows that occur are trained until the best weights are back.
        trained: what steps change, by name: with the rows of ``tables`` in their place.
        diverged: at which step and why.
    """

    claim: Claim
    prepared: PreparedModel
    batch: StepBatch
    parts: Parts
    encoded: Mapping[str, Encoded]
    evaluator: Evaluator
    checkpoint: CheckpointFile
    outcome: Outcome
    num_classes: int
    device: str = "cpu"
    tables: Sequence[WordTable] = ()
    best: dict[str, Tensor] = field(default_factory=dict, init=False)
    diverged: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.run, training = self.claim.run, self.claim.run.training
        self.trained = replace_tables(self.prepared.trained, self.tables)
        decays = {f"{table.name}~decay": table.decay for table in self.tables}
        self._kept: dict[str, Tensor] = {**self.trained, **decays}
        self.per_epoch = -(-len(self.batch.data.labels) // training.batch_size)
        self.steps = training.max_steps or training.epochs * self.per_epoch
        self.eval_every = min(training.eval_every or self.per_epoch, self.steps)
        self.progress = RunProgress(micro_batch=self.batch.micro_batch)
        if self.trained:
            factors = self.prepared.injection.learning_rate_factors
            self.optimizer = RunOptimizer(
                self.trained, training, self.num_classes, factors, self.tables
            )
            adamw, micro_batch = self.optimizer.adamw, self.batch.micro_batch
            if (resumed := self.checkpoint.load(self._kept, adamw, micro_batch)) is not None:
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
        return ended or self.diverged is not None

    @property
    def needs_evaluation(self) -> bool:
        """Whether the weights after the last step are due to be scored."""
        step, curve = self.progress.step, self.progress.curve
        evaluated_at = curve[-1]["step"] if curve else 0
        scheduled = step % self.eval_every == 0 or step == self.steps
        return self.diverged is None and step > evaluated_at and scheduled

    @property
    def has_best_weights(self) -> bool:
        """Whether there are weights to predict with; not if it diverged before the first score."""
        return self.diverged is None or bool(self.best)

    def next_batch(self) -> StepBatch:
        """The examples of the next step."""
        epoch, place = divmod(self.progress.step, self.per_epoch)
        size = self.run.training.batch_size
        shuffled = shuffle_order(len(self.batch.data.labels), self.run.seed, epoch)
        indices = shuffled[place * size : (place + 1) * size]
        return replace(self.batch, indices=indices, step=self.progress.step).draw()

    def step(self, losses: Tensor) -> None:
        """Change the weights by the gradients, and record the step with its loss.

        ``losses``: what each pass adds to it, in nats; (passes,).
        """
        run, step, training = self.run, self.progress.step, self.run.training
        factor = learning_rate_factor(step, self.steps, training.warmup_fraction, training.schedule)
        if step == 0 and is_trial(run):
            self.progress.first_gradients = {
                name: float(p.grad.float().square().mean())
                for name, p in self.trained.items()
                if p.grad is not None
            }
        with self._catching_divergence():
            rate = (run.learning_rate or 0.0) * factor
            loss = self.optimizer.step(step, rate, losses)
            self.progress.losses.append(loss)
            self.progress.step += 1
            step_report = {"step": self.progress.step, "steps": self.steps, "loss": loss}
            self.claim.report({**step_report, "resumed_at": self.resumed_at})
        self.optimizer.adamw.zero_grad()

    def evaluate(self) -> None:
        """Score the present weights, extend the curve, and keep them if they are the best so far.

        The best weights are a copy, except after the last step. A selection loss that is not finite
        is divergence, too.
        """
        with self._catching_divergence():
            if (body := self.batch.body) is not None:
                loaded, labels = self.prepared.loaded, self.batch.data.labels
                embed = partial(self.evaluator.compute, "train")
                body.fit_head(loaded, labels, self.batch.loss_options, embed)
            scores = self.evaluator.score_selection()
            if not math.isfinite(scores["loss"]):
                why = f"the selection loss is {scores['loss']}"
                raise DivergedError(self.progress.step, why)
            progress = self.progress
            since = progress.curve[-1]["step"] if progress.curve else 0
            losses = progress.losses[since : progress.step]
            point = {
                "step": progress.step,
                "epoch": (progress.step - 1) // self.per_epoch + 1,
                "loss": sum(losses) / len(losses),
                "selection": scores,
            }
            with defer_interrupts():
                progress.curve.append(point)
                best = progress.best_scores  # by the metric, then by the loss
                new = (scores["primary"], -scores["loss"])
                if progress.best_step < 0 or new > (best["primary"], -best["loss"]):
                    progress.best_step, progress.best_scores = progress.step, scores
                    progress.without_gain = 0
                    if progress.step == self.steps:
                        self.best = {name: p.detach() for name, p in self._kept.items()}
                    elif not self.best:
                        self.best = copy_to_cpu(self._kept)
                    else:  # new memory for a model costs more than copying
                        copy_tensors(self._kept, self.best)
                else:
                    progress.without_gain += 1
                self._stopped_early = self._out_of_patience

    def save_if_due(self) -> None:
        """Write the checkpoint, where the last one is old enough and the run goes on."""
        if not self._stopped_early and self.checkpoint.is_due:
            self.save()

    def save(self) -> None:
        """Write the checkpoint now, as after the last whole step."""
        if self.trained and self.progress.step and self.diverged is None:
            with defer_interrupts():
                self.checkpoint.save(self.progress, self._kept, self.best, self.optimizer.adamw)

    def restore_best(self) -> None:
        """Put the best weights into the model, with whole tables of words."""
        copy_tensors(self.best, self._kept)
        for table in self.tables:
            table.restore()

    def predict(self) -> dict[str, ModelPredictions]:
        """Predictions by the best weights, once they are back, for the parts that are reported."""
        predictions: dict[str, ModelPredictions] = {}
        if self.has_best_weights:
            predictions["selection"] = self.evaluator.predict_selection(self.progress)
            for part in TEST_PARTS:
                if self.parts.named(part):
                    predictions[part] = self.evaluator.predict(part)
        return predictions

    def write_outcome(
        self,
        predictions: Mapping[str, ModelPredictions],
        dataset: Dataset,
        model_notes: Collection[str],
        keep_bytes: int | None,
    ) -> None:
        """Write the result of the trained run, its best weights in its parameters.

        Args:
            keep_bytes: a final run's weights are kept up to this size; None: of any size.
        """
        progress, result = self.progress, self.outcome.result
        trained = self.prepared.trained
        sizes = {name: p.numel() for name, p in trained.items()}
        if self.diverged:
            result["notes"].append(f"diverged at {self.diverged}")
        result |= {
            "steps": progress.step,
            "best_step": progress.best_step,
            "curve": progress.curve,
            "micro_batch": self.batch.micro_batch,
            "trained_parameters": sum(sizes.values()),
            "method_parameters": sum(sizes[name] for name in self.prepared.injection.parameters),
            "head_parameters": sum(sizes[name] for name in self.prepared.head),
            "truncated": {
                name: sum(data.truncated)
                for name, data in self.encoded.items()
                if name in vars(self.parts)
            },
        }
        result["notes"].extend(model_notes)
        if len(progress.devices) > 1:
            turns = ", then on ".join(progress.devices)
            result["notes"].append(f"trained on {turns}: not the bits of one of them alone")
        origin: dict[str, Any] = {"run": self.run.canonical_form()}
        if (target_scale := self.batch.loss_options.target_scale) is not None:
            result["target"] = origin["target"] = asdict(target_scale)
        diverged = self.diverged is not None
        write_scores(self.outcome, self.run, predictions, self.parts, dataset, diverged=diverged)
        if diverged:
            return
        if thresholds := result.get("thresholds"):
            origin["thresholds"] = thresholds
        size = sum(p.numel() * p.element_size() for p in trained.values())
        result["trained_bytes"] = size
        fits = keep_bytes is None or size <= keep_bytes  # others can be trained again
        if self.run.stage == "final" and self.run.rows == 1 and fits:
            tensors = {name: p.detach().cpu().contiguous() for name, p in trained.items()}
            # One key only: safetensors writes several in no fixed order, and blobs are hashed.
            header = {"paretune": json.dumps(origin, sort_keys=True)}
            self.outcome.blobs["weights"] = safetensors_bytes(tensors, metadata=header)

    def add_seconds(self, phase: str, seconds: float) -> None:
        """Count wall-clock seconds of this run."""
        spent = self.outcome.measured.setdefault("wall_seconds", {})
        spent[phase] = spent.get(phase, 0.0) + seconds

    @contextlib.contextmanager
    def _catching_divergence(self) -> Iterator[None]:
        """Finish a run that diverges in the block, and keep the reason."""
        try:
            yield
        except DivergedError as error:
            self.diverged = str(error)

    @property
    def _out_of_patience(self) -> bool:
        patience = self.run.training.patience
        return patience is not None and self.progress.without_gain >= patience


@torch.no_grad()
def copy_to_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU; of GPU tensors in pinned memory, into which further copies are fast."""
    copies = {}
    for name, tensor in tensors.items():
        pinned = tensor.device.type == "cuda"
        copy = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=pinned)
        copies[name] = copy.copy_(tensor)
    return copies


@torch.no_grad()
def copy_tensors(values: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
    """Copy values into the tensors of the same names, on any device."""
    for name, value in values.items():
        into[name].copy_(value)
