"""One dry step: a method on a model on two examples of a task, to find what would fail later."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from paretune.methods import Trains
from paretune.methods.core.run_axis import Fleet
from paretune.objectives.target_scale import fit_target_scale
from paretune.study import ModelSpec, Run, TaskSpec
from paretune.training.caches import ProcessCache
from paretune.training.evaluation.predict import mean_token_loss
from paretune.training.forward.packed import enable_packing
from paretune.training.loop import train_step
from paretune.training.optimiser import make_adamw
from paretune.training.out_of_memory import DivergedError
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
    loaded = caches.model(run.model, dataset, bf16=allows_bf16_weights(run))
    labels = len(dataset.labels)
    prepared = prepare(run, loaded, device)
    enable_packing(prepared)
    extra = prepared.injection.virtual_tokens
    try:
        encoded = caches.encode(
            parts.train[:16], loaded, caches.source(run.model), prepared.max_length
        )
        longest = sorted(range(len(encoded.lengths)), key=lambda i: -encoded.lengths[i])[:2]
        plan = RunConfig(
            run.training, 0.0, run.seed, 2, prepared.classes(labels), prepared.pad_id, device,
            "bf16" if run.training.precision == "bf16" else "fp32",
            Path(), scale=fit_target_scale(parts.train),
        )  # fmt: skip
        if not prepared.trained:
            return DryStep("trains nothing", prepared.max_length, extra)
        fleet: Fleet = prepared.fleet
        optimizer = make_adamw(prepared.trained, 0.0)
        loaded.model.train()
        train_step(loaded.model, prepared.trained, optimizer, encoded, longest, 0, 0.0, plan, fleet)
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


def compare_directions(task: TaskSpec, model: ModelSpec, bench: ProcessCache) -> DirectionLosses:
    """Which way a model translates, asked of the model itself as it comes, on 64 training pairs."""
    dataset = bench.dataset(task)
    loaded = bench.model(model, dataset)
    pairs = [e for e in dataset.train if e.target is not None][:64]
    turned = [replace(e, segments=((str(e.target), None),), target=e.segments[0][0]) for e in pairs]
    length = min(128, loaded.anatomy.max_length or 128)
    found = []
    for examples in (pairs, turned):
        encoded = bench.encode(examples, loaded, bench.source(model), length)
        found.append(
            mean_token_loss(
                loaded.model,
                encoded,
                fleet=Fleet(),
                pad_id=loaded.anatomy.pad_id or 0,
                device="cpu",
                precision="fp32",
            )
        )
    asked, other = found
    return DirectionLosses(asked, other, len(pairs))
