"""The cost probe: what one method costs, measured alone in a fresh process.

The longest batch of the run sets the peak and is then timed. Loading, training and evaluation are
separate phases. A reason stands in place of what cannot be measured.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch

from paretune.data.example import Dataset
from paretune.measuring.costs import PROBE_COPIES, estimate_compute_cost
from paretune.measuring.machine import describe_device, describe_environment
from paretune.measuring.memory import PeakMeter, warm_libraries
from paretune.measuring.model_shape import describe_trained_part, measure_shape
from paretune.measuring.training_step import (
    MIN_STEPS,
    ActivationMeter,
    count_safetensors_bytes,
    measure_components,
    time_steps,
)
from paretune.objectives.encoding import Encoded
from paretune.preparation import ProcessCache
from paretune.store.record import Claim, Report
from paretune.study import Generation, Run
from paretune.training import Outcome
from paretune.training.evaluation.predict import evaluate, generate
from paretune.training.forward.passes import Compute, Forward, MicroBatch, StepBatch
from paretune.training.forward.select import make_forward
from paretune.training.interruption import is_out_of_memory
from paretune.training.loop import accumulate_gradients, compute_loss
from paretune.training.prepare import PreparedModel, allows_bf16_weights, prepare
from paretune.training.run_state import RunOptimizer
from paretune.training.word_tables import (
    WordTable,
    count_idle,
    replace_tables,
    train_occurring_rows,
)

WARM_UP_STEPS = 2
"""Steps before the clock counts."""


def measure_cost(
    claim: Claim,
    device: str = "cpu",
    halvings: int = 0,
    limit_seconds: float = 20.0,
    datasets: Mapping[str, Dataset] | None = None,
) -> Outcome:
    """Measure a run's cost. Call it in a process that has done nothing else.

    Args:
        claim: a run of stage ``cost``; its checkpoint is not used, since a probe is short.
        halvings: how often the micro-batch is halved, after the system killed earlier attempts.
        limit_seconds: for timing steps, and half of it for timing inference; two of each are timed
            however long they take (:func:`time_steps`).
        datasets: that this process has, as in :class:`ProcessCache`.

    Returns:
        ``measured`` with the keys of :mod:`paretune.measuring`, and ``batch_size``,
        ``micro_batch``, ``length`` (tokens of the longest sequence), ``examples_per_second``,
        ``tokens_per_second``, ``saved_bytes``, ``inference``; ``batch_tokens`` of the timed batch
        and ``mean_batch_tokens`` of an average one.
    """
    run, caches = claim.run, ProcessCache(dict(datasets or {}))
    dataset, parts = caches.dataset(run.task), caches.parts(run)
    objective = caches.objective(run)
    source = caches.source(run.model)
    warm_libraries(device, bf16=run.training.precision == "bf16")
    meter = PeakMeter(device)
    meter.baseline()
    with meter.phase("load"):
        loaded = caches.run_model(run, bf16=allows_bf16_weights(run))
        shape = measure_shape(loaded)
        prepared = prepare(run, loaded, device)
        forward = make_forward(prepared, Compute.of(run, device), run.training.backend)
    objective = caches.objective(run, loaded.anatomy.max_length)
    num_classes = prepared.num_classes(objective, len(dataset.labels))
    encode = partial(caches.encode, parts.train, loaded, source, prepared.max_length)
    # Answers may read more than training does: the texts of all labels.
    answers = encode(objective.encode)
    encoded = encode(objective.encoder("train")) if prepared.trained else answers
    longest = sorted(range(len(encoded.lengths)), key=lambda i: (-encoded.lengths[i], i))
    batch = longest[: run.training.batch_size]
    micro_batch = max(1, (run.training.micro_batch or len(batch)) >> halvings)
    tables = train_occurring_rows(prepared, encoded, run.training.backend)
    outcome = Outcome(result={"outcome": "ok", "notes": []})
    measured: dict[str, Any] = {}

    otherwise = objective.encode_training or prepared.method.method.body_training
    questions = answers.select(batch) if otherwise else None
    step_batch = StepBatch(
        data=encoded,
        indices=batch,
        seed=run.seed,
        objective=objective,
        loss_options=objective.loss_options(
            parts.train,
            dataset.labels,
            run.training.label_smoothing,
            run.training.class_weights,
        ),
        micro_batch=micro_batch,
        pass_overhead_tokens=prepared.pass_tokens,
        body=prepared.method.method.body_training,
    ).draw()
    while True:
        step_batch = replace(step_batch, micro_batch=micro_batch)
        probe = (run, prepared, tables, forward, step_batch, questions)
        try:
            measured = _measure(*probe, num_classes, meter, claim.report, limit_seconds)
            break
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        gc.collect()  # the tensors were freed with the frames of the attempt
        if micro_batch == 1:
            outcome.result["outcome"] = "out_of_memory"
            break
        micro_batch //= 2
        # The peak of the attempt that failed is no cost of the run: it is measured anew.
        meter.forget("train", "evaluation")
        for parameter in replace_tables(prepared.trained, tables).values():
            parameter.grad = None
        note = f"out of memory: the micro-batch is halved to {micro_batch}"
        outcome.result["notes"].append(note)
    peaks = meter.result()
    reasons = {**peaks.pop("not_measured"), **measured.pop("not_measured", {})}
    trained = sum(p.numel() for p in prepared.trained.values())
    outcome.result["trained_parameters"] = trained
    part = describe_trained_part(run, loaded, trained, *count_idle(tables))
    if tables:
        outcome.result["word_tables"] = {
            "rows": sum(len(table.whole) for table in tables),
            "trained_rows": sum(len(table.rows) for table in tables),
            "spared_bytes": 4 * (PROBE_COPIES * part.idle - part.copied),
        }
    choices = len(encoded.ids[0])
    examples = range(len(encoded.lengths))
    outcome.measured = {
        "work": asdict(
            estimate_compute_cost(
                run, shape, part, encoded.lengths, choices, device, encoded.mean_scored
            )
        ),
        **peaks,
        **measured,
        "not_measured": reasons,
        **describe_device(device),
        "threads": torch.get_num_threads(),
        "precision": run.training.precision,
        "batch_size": len(batch),
        "micro_batch": micro_batch,
        "length": encoded.lengths[batch[0]],
        "batch_tokens": _count_tokens(encoded, batch),
        "mean_batch_tokens": _count_tokens(encoded, examples) * len(batch) / len(examples),
        "saved_bytes": count_safetensors_bytes(prepared.trained),
        "environment": describe_environment(device),
    }
    return outcome


def _measure(
    run: Run,
    prepared: PreparedModel,
    tables: Sequence[WordTable],
    forward: Forward,
    batch: StepBatch,
    questions: Encoded | None,
    num_classes: int,
    meter: PeakMeter,
    report: Report,
    limit_seconds: float,
) -> dict[str, Any]:
    if not prepared.trained:
        with meter.phase("evaluation"):
            latency = _measure_latency(run, prepared, forward, batch, questions, limit_seconds / 2)
        reasons = dict.fromkeys(("step_seconds", "train"), "nothing is trained")
        return {"step_seconds": None, "inference": latency, "not_measured": reasons}
    factors = prepared.injection.learning_rate_factors
    trained = replace_tables(prepared.trained, tables)
    optimizer = RunOptimizer(trained, run.training, num_classes, factors, tables)
    device = forward.compute.device
    forward.model.train()

    def step(number: int) -> None:
        report({"step": number, "steps": max(WARM_UP_STEPS + MIN_STEPS, number + 1)})
        losses = accumulate_gradients(replace(batch, step=number), forward)
        optimizer.step(number, 0.0, losses)

    with meter.phase("train"):
        step_seconds = time_steps(step, device, warm_up=WARM_UP_STEPS, limit_seconds=limit_seconds)
    # Bytes by component, in one more pass over the first micro-batch.
    first, *_ = forward.splitter.split_training(batch)
    forward.context.seed_dropout(0)
    with ActivationMeter(forward.model) as activations, forward.context.dropout_context():
        loss = compute_loss(replace(batch, indices=first.indices), first, forward)
    torch.autograd.backward(loss)
    components, reasons = measure_components(forward.model, optimizer.adamw, activations)
    optimizer.adamw.zero_grad()
    with meter.phase("evaluation"):
        latency = _measure_latency(run, prepared, forward, batch, questions, limit_seconds / 2)
    median = step_seconds["median"]
    return {
        "components": components,
        "step_seconds": step_seconds,
        "inference": latency,
        "not_measured": reasons,
        "examples_per_second": len(batch.indices) / median,
        "tokens_per_second": _count_tokens(batch.data, batch.indices) / median,
    }


def _count_tokens(encoded: Encoded, examples: Iterable[int]) -> int:
    return sum(len(ids) for i in examples for ids in encoded.ids[i])


def _measure_latency(
    run: Run,
    prepared: PreparedModel,
    forward: Forward,
    batch: StepBatch,
    questions: Encoded | None,
    limit_seconds: float,
) -> dict[str, Any]:
    """Seconds of an example in evaluation, in the probe's own batch: median and quartiles.

    ``questions``: the batch as it is evaluated, where it is encoded otherwise to train.
    """
    forward.model.eval()

    def predict_logits() -> None:
        with torch.inference_mode(), forward.compute.autocast():
            forward(MicroBatch(batch.data, batch.indices))

    predict: Callable[[], object] = predict_logits
    if questions is not None:
        predict = partial(evaluate, forward, questions, batch.objective.collector)
    if batch.objective.generates:  # answers as long as the longest reference
        data = batch.data.select(batch.indices)
        longest = max(data.scored_length((i, 0)) for i in range(len(data.ids)))
        settings = (run.generation or Generation()).model_copy(update={"max_new_tokens": longest})
        model = (prepared.loaded, prepared.context, forward.compute)
        predict = partial(generate, *model, data, settings)
    seconds = time_steps(
        lambda number: predict(), forward.compute.device, warm_up=1, limit_seconds=limit_seconds
    )
    each = {name: seconds[name] / len(batch.indices) for name in ("median", "q1", "q3")}
    return {
        "unmerged_seconds_per_example": each["median"],
        "unmerged": {**seconds, **each},
    }
