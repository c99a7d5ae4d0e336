"""Dry runs: one step on two examples, and which way a model translates, before anything trains."""

from __future__ import annotations

from dataclasses import dataclass, replace

from paretune.methods import Trains
from paretune.methods.core.run_axis import Fleet
from paretune.study import ModelSpec, Run, TaskSpec
from paretune.training.caches import ProcessCache
from paretune.training.evaluation.predict import evaluate_alone
from paretune.training.forward.micro_batch import StepBatch
from paretune.training.forward.select import forward_for, make_forward
from paretune.training.loop import accumulate_gradients
from paretune.training.prepare import allows_bf16_weights, prepare
from paretune.training.runs.optimiser import DivergedError, RunOptimizer
from paretune.training.runs.run_config import Compute, RunConfig


@dataclass(frozen=True)
class DryStep:
    """The result of a dry step.

    Attributes:
        summary: what is trained (``in 24 layers, 147,456 method + 148,995 head parameters``), or
            that the first step is not finite.
        text_tokens: tokens of a sequence that are left for the text.
    """

    summary: str
    text_tokens: int
    virtual_tokens: int


def take_dry_step(run: Run, caches: ProcessCache, device: str = "cpu") -> DryStep:
    """Prepare the run and take one training step on its two longest examples.

    In the run's own precision, on the device where it would train.

    Raises:
        ParetuneError: the method cannot serve this model or task.
    """
    parts = caches.parts(run)
    dataset = caches.dataset(run.task)
    objective = dataset.objective
    loaded = caches.model(run.model, dataset, bf16=allows_bf16_weights(run))
    prepared = prepare(run, loaded, device)
    forward = make_forward(
        prepared, Compute.of(run, device), run.training.backend, objective.collate
    )
    virtual_tokens = prepared.injection.virtual_tokens
    try:
        encoded = caches.encode(
            parts.train[:16],
            loaded,
            caches.source(run.model),
            prepared.max_length,
            objective.encode,
        )
        longest = sorted(range(len(encoded.lengths)), key=lambda i: -encoded.lengths[i])[:2]
        config = RunConfig(
            run=run,
            device=device,
            micro_batch=2,
            num_classes=prepared.num_classes(len(dataset.labels)),
            objective=objective,
            loss_options=objective.loss_options(parts.train, run.training.label_smoothing),
        )
        if not prepared.trained:
            return DryStep("trains nothing", prepared.max_length, virtual_tokens)
        loaded.model.train()
        (loss,) = accumulate_gradients([StepBatch(encoded, longest, 0, config)], forward)
        RunOptimizer(prepared.trained, config).step(0, 0.0, loss)
        method = sum(p.numel() for p in prepared.injection.parameters.values())
        head = sum(p.numel() for p in prepared.head.values())
        adapters = len(prepared.injection.adapters)
        places = f"in {adapters} layers, " if adapters else ""
        places += f"{virtual_tokens} virtual tokens, " if virtual_tokens else ""
        summary = f"{places}{method:,} method + {head:,} head parameters"
        return DryStep(summary, prepared.max_length, virtual_tokens)
    except DivergedError as error:
        return DryStep(str(error), prepared.max_length, virtual_tokens)
    finally:
        loaded.model.eval()
        prepared.undo()
        if prepared.method.trains is Trains.EVERYTHING:
            caches.drop_model()


@dataclass(frozen=True)
class DirectionLosses:
    """Mean loss of a token, in nats, in the requested direction and in the other one."""

    requested: float
    reversed: float
    pairs: int

    @property
    def looks_reversed(self) -> bool:
        """Whether the model finds the other direction much likelier: by half a nat a token.

        A model that knows neither language finds both directions about equally unlikely; a model of
        the right direction is nats apart.
        """
        return self.reversed < self.requested - 0.5


def compare_directions(task: TaskSpec, model: ModelSpec, caches: ProcessCache) -> DirectionLosses:
    """Losses of a pretrained model in both directions, on 64 training pairs."""
    dataset = caches.dataset(task)
    loaded = caches.model(model, dataset)
    pairs = [e for e in dataset.train if e.target is not None][:64]
    reversed_pairs = [
        replace(e, segments=((str(e.target), None),), target=e.segments[0][0]) for e in pairs
    ]
    length = min(128, loaded.anatomy.max_length or 128)
    forward = forward_for(loaded, Fleet(), Compute())
    requested, other = (
        evaluate_alone(
            forward,
            caches.encode(examples, loaded, caches.source(model), length),
            dataset.objective.collector,
        )
        for examples in (pairs, reversed_pairs)
    )
    return DirectionLosses(requested, other, len(pairs))
