"""The solo cost probe: what one method costs, measured alone in a fresh process.

The longest batch that the run would ever see comes first and sets the peak; the same batch is then
timed. Phases are apart: loading, training, evaluation. What could not be measured says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from paretune.measuring.clock import MIN_STEPS, StepClock
from paretune.measuring.components import ActivationMeter, measure_components
from paretune.measuring.energy import EnergyMeter
from paretune.measuring.environment import describe_device, describe_environment
from paretune.measuring.file_size import count_safetensors_bytes
from paretune.measuring.memory import PeakMeter, warm_libraries
from paretune.models.kernels import policy
from paretune.objectives.encoding import Encoded
from paretune.objectives.target_scale import fit_target_scale
from paretune.study import Generation, Run
from paretune.training.caches import ProcessCache
from paretune.training.estimate_cost import estimate_cost, measure_shape
from paretune.training.evaluation.generate import generate
from paretune.training.forward.micro_batch import Forward, MicroBatch, StepBatch
from paretune.training.forward.select import make_forward
from paretune.training.job import Outcome
from paretune.training.loop import accumulate_gradients, compute_losses
from paretune.training.optimiser import RunOptimizer
from paretune.training.out_of_memory import fit_in_memory
from paretune.training.precision import Compute
from paretune.training.prepare import PreparedModel, allows_bf16_weights, prepare
from paretune.training.run_config import RunConfig

WARM_UP_STEPS = 2
"""Steps before the clock counts."""


def measure_cost(
    run: Run,
    *,
    checkpoint: Path,
    report: Callable[[dict[str, Any]], None],
    device: str = "cpu",
    halvings: int = 0,
    limit_seconds: float = 20.0,
) -> Outcome:
    """Measure a run's cost. Call it in a process that has done nothing else.

    Args:
        run: of stage ``cost``.
        checkpoint: not used; a probe is short and starts over.
        report: told ``step`` and ``steps``.
        device: where to measure.
        halvings: how often the micro-batch is halved, after the system killed earlier attempts.
        limit_seconds: for timing steps, and half as much for timing answers; two of each are timed
            however long they take (:meth:`StepClock.repeat`).

    Returns:
        ``measured`` with the keys of :mod:`paretune.measuring`, and ``batch_size``,
        ``micro_batch``, ``length`` (tokens of the longest sequence), ``examples_per_second``,
        ``tokens_per_second``, ``saved_bytes``, ``inference``; ``batch_tokens`` of the timed batch
        and ``mean_batch_tokens`` of an ordinary one.
    """
    bench = ProcessCache()
    dataset, parts = bench.dataset(run.task), bench.parts(run)
    source = bench.source(run.model)
    warm_libraries(device, bf16=run.training.precision == "bf16")
    if device == "cpu" and run.training.precision == "fp32":
        policy.preload_kernels()
    meter = PeakMeter(device)
    meter.baseline()
    with meter.phase("load"):
        loaded = bench.model(run.model, dataset, bf16=allows_bf16_weights(run))
        shape = measure_shape(loaded)
        prepared = prepare(run, loaded, device)
        forward = make_forward(prepared, Compute.of(run, device), run.training.backend)
    encoded = bench.encode(parts.train, loaded, source, prepared.max_length)
    longest = sorted(range(len(encoded.lengths)), key=lambda i: (-encoded.lengths[i], i))
    batch, everything = longest[: run.training.batch_size], range(len(encoded.lengths))
    micro_batch = max(1, (run.training.micro_batch or len(batch)) >> halvings)
    outcome = Outcome(result={"outcome": "ok", "notes": []})
    measured: dict[str, Any] = {}

    def attempt(micro_batch: int) -> None:
        config = RunConfig(
            run=run,
            device=device,
            micro_batch=micro_batch,
            num_classes=prepared.num_classes(len(dataset.labels)),
            target_scale=fit_target_scale(parts.train),
            pass_overhead_tokens=prepared.pass_tokens,
            learning_rate_factors=prepared.injection.learning_rate_factors,
        )
        step_batch = StepBatch(encoded, batch, 0, config)
        measured.update(_measure(prepared, forward, step_batch, meter, report, limit_seconds))

    def note_halving(smaller: int) -> None:
        nonlocal micro_batch
        micro_batch = smaller
        # What the attempt that failed had reached is no cost of the run: it is measured anew.
        meter.forget("train", "evaluation")
        for parameter in prepared.trained.values():
            parameter.grad = None
        outcome.result["notes"].append(f"out of memory: the micro-batch is halved to {smaller}")

    if not fit_in_memory(attempt, micro_batch, note_halving):
        outcome.result["outcome"] = "out_of_memory"
    peaks = meter.result()
    missing = {**peaks.pop("not_measured"), **measured.pop("not_measured", {})}
    trained = sum(p.numel() for p in prepared.trained.values())
    outcome.result["trained_parameters"] = trained
    choices = len(encoded.ids[0])
    outcome.measured = {
        "work": asdict(estimate_cost(run, shape, trained, encoded.lengths, choices, device)),
        **peaks,
        **measured,
        "not_measured": missing,
        **describe_device(device),
        "threads": torch.get_num_threads(),
        "precision": run.training.precision,
        "batch_size": len(batch),
        "micro_batch": micro_batch,
        "length": encoded.lengths[batch[0]],
        "batch_tokens": _count_tokens(encoded, batch),
        "mean_batch_tokens": _count_tokens(encoded, everything) * len(batch) / len(everything),
        "saved_bytes": count_safetensors_bytes(prepared.trained),
        "environment": describe_environment(device, compiled=prepared.fleet.used_kernels),
    }
    return outcome


def _measure(
    prepared: PreparedModel,
    forward: Forward,
    batch: StepBatch,
    meter: PeakMeter,
    report: Callable[[dict[str, Any]], None],
    limit_seconds: float,
) -> dict[str, Any]:
    if not prepared.trained:
        with meter.phase("evaluation"):
            latency = _measure_latency(prepared, forward, batch, limit_seconds / 2)
        nothing = dict.fromkeys(("step_seconds", "train"), "nothing is trained")
        return {
            "step_seconds": None,
            "inference": latency,
            "not_measured": nothing,
        }
    optimizer = RunOptimizer(prepared.trained, batch.config)
    clock = StepClock(forward.compute.device, warm_up=WARM_UP_STEPS)
    forward.model.train()

    def step() -> None:
        number = len(clock.seconds)
        report({"step": number, "steps": max(WARM_UP_STEPS + MIN_STEPS, number + 1)})
        (loss,) = accumulate_gradients([replace(batch, step=number)], forward)
        optimizer.step(number, 0.0, loss)

    with meter.phase("train"), EnergyMeter(forward.compute.device) as energy:
        step_seconds = clock.repeat(step, limit_seconds)
    parts, missing = _measure_components(forward, batch, optimizer)
    optimizer.zero_grad()
    with meter.phase("evaluation"):
        latency = _measure_latency(prepared, forward, batch, limit_seconds / 2)
    found: dict[str, Any] = {
        "components": parts,
        "step_seconds": step_seconds,
        "inference": latency,
        "not_measured": missing,
    }
    if energy.joules is None:
        found["not_measured"]["energy"] = energy.not_measured
    else:
        found["energy"] = {"joules": energy.joules / len(clock.seconds), "counter": energy.counter}
    median = step_seconds["median"]
    found["examples_per_second"] = len(batch.indices) / median
    found["tokens_per_second"] = _count_tokens(batch.data, batch.indices) / median
    return found


def _count_tokens(encoded: Encoded, examples: Iterable[int]) -> int:
    """Tokens of all texts of these examples, without references."""
    return sum(len(ids) for i in examples for ids in encoded.ids[i])


def _measure_components(
    forward: Forward, batch: StepBatch, optimizer: RunOptimizer
) -> tuple[dict[str, int], dict[str, str]]:
    """Where the bytes are, in one more pass over the first micro-batch of the longest examples."""
    first, *_ = forward.splitter.split_training([batch])
    forward.fleet.seed_dropout([0])
    with ActivationMeter(forward.model) as activations, forward.fleet.dropout_context():
        (loss,) = compute_losses(
            [replace(batch, indices=first[0].indices)], first, forward
        ).values()
    torch.autograd.backward(loss)
    return measure_components(forward.model, optimizer.adamw, activations)


def _measure_latency(
    prepared: PreparedModel, forward: Forward, batch: StepBatch, limit_seconds: float
) -> dict[str, Any]:
    """Seconds an example takes in evaluation, in the probe's own batch: median and quartiles."""
    clock = StepClock(forward.compute.device, warm_up=1)
    forward.model.eval()

    def answer() -> None:
        with torch.inference_mode(), forward.compute.autocast():
            forward([MicroBatch(batch.data, batch.indices)])

    if batch.data.targets is not None:
        answer = _make_translate(prepared, forward.compute, batch)
    found = clock.repeat(answer, limit_seconds)
    each = {name: found[name] / len(batch.indices) for name in ("median", "q1", "q3")}
    return {
        "unmerged_seconds_per_example": each["median"],
        "unmerged": {**found, **each},
    }


def _make_translate(
    prepared: PreparedModel, compute: Compute, batch: StepBatch
) -> Callable[[], None]:
    """The same of a translation, which is made as long as the longest reference of the batch."""
    data = batch.data.select(batch.indices)
    longest = max(len(tokens) for tokens in data.targets or [])
    generation = batch.config.run.generation or Generation()
    settings = generation.model_copy(update={"max_new_tokens": longest})

    def translate() -> None:
        generate(prepared.loaded, prepared.fleet, compute, data, settings)

    return translate
