"""One dry step: a method on a model on two examples of a task, to find what would fail later."""

from __future__ import annotations

from dataclasses import dataclass, replace

from paretune.methods import Trains
from paretune.methods.core.run_axis import Fleet
from paretune.study import ModelSpec, Run, TaskSpec
from paretune.training.caches import ProcessCache
from paretune.training.divergence import DivergedError
from paretune.training.evaluation.predict import evaluate_alone
from paretune.training.forward.micro_batch import StepBatch
from paretune.training.forward.select import forward_for, make_forward
from paretune.training.loop import accumulate_gradients
from paretune.training.optimiser import RunOptimizer
from paretune.training.precision import Compute
from paretune.training.prepare import allows_bf16_weights, prepare
from paretune.training.run_config import RunConfig


@dataclass(frozen=True)
class DryStep:
    """What was seen of a run in its dry step.

    Attributes:
        said: what was trained, in a few words (``in 24 layers, 147,456 + 148,995
            parameters``), or that the first step is not finite.
        text_tokens: how many tokens of a sequence are left to the text.
        virtual_tokens: how many the method takes for itself.
    """

    said: str
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
    extra = prepared.injection.virtual_tokens
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
            return DryStep("trains nothing", prepared.max_length, extra)
        loaded.model.train()
        (loss,) = accumulate_gradients([StepBatch(encoded, longest, 0, config)], forward)
        RunOptimizer(prepared.trained, config).step(0, 0.0, loss)
        method = sum(p.numel() for p in prepared.injection.parameters.values())
        head = sum(p.numel() for p in prepared.head.values())
        beside = len(prepared.injection.adapters)
        said = f"in {beside} layers, " if beside else ""
        said += f"{extra} virtual tokens, " if extra else ""
        said = f"{said}{method:,} method + {head:,} head parameters"
        return DryStep(said, prepared.max_length, extra)
    except DivergedError as error:
        return DryStep(str(error), prepared.max_length, extra)
    finally:
        loaded.model.eval()
        prepared.undo()
        if prepared.method.trains is Trains.EVERYTHING:
            caches.drop_model()


@dataclass(frozen=True)
class DirectionLosses:
    """Nats a token of the references given the sources, and of the sources given the references."""

    as_asked: float
    reversed: float
    pairs: int

    @property
    def looks_reversed(self) -> bool:
        """The model finds the other direction much likelier than the one it is asked for.

        Half a nat a token: a model that never saw either language well finds both about equally
        unlikely, and one of the right direction is nats apart.
        """
        return self.reversed < self.as_asked - 0.5


def compare_directions(task: TaskSpec, model: ModelSpec, caches: ProcessCache) -> DirectionLosses:
    """Which way a model translates: its own losses, as it comes, on 64 training pairs."""
    dataset = caches.dataset(task)
    loaded = caches.model(model, dataset)
    pairs = [e for e in dataset.train if e.target is not None][:64]
    turned = [replace(e, segments=((str(e.target), None),), target=e.segments[0][0]) for e in pairs]
    length = min(128, loaded.anatomy.max_length or 128)
    forward = forward_for(loaded, Fleet(), Compute())
    requested, other = (
        evaluate_alone(
            forward,
            caches.encode(examples, loaded, caches.source(model), length),
            dataset.objective.collector,
        )
        for examples in (pairs, turned)
    )
    return DirectionLosses(requested, other, len(pairs))
