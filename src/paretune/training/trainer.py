"""One run, from its description to what it leaves: scores, answers, curve, weights, seconds."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from paretune import methods
from paretune.data.example import Dataset
from paretune.measuring.environment import describe_environment
from paretune.methods import ConfiguredBaseline, Trains
from paretune.objectives.target_scale import fit_target_scale
from paretune.study import Generation, Run
from paretune.training import out_of_memory
from paretune.training.answering import from_scores, from_texts, references
from paretune.training.caches import Parts, ProcessCache
from paretune.training.checkpoint import saved_micro_batch
from paretune.training.estimate_cost import estimate_cost, measure_shape
from paretune.training.evaluation.evaluator import make_evaluator
from paretune.training.evaluation.generate import generate
from paretune.training.evaluation.optional_metrics import OptionalMetrics
from paretune.training.evaluation.predict import mean_token_loss, predict_logits
from paretune.training.forward.activation_cache import enable_activation_cache
from paretune.training.forward.packed import enable_packing
from paretune.training.loop import train
from paretune.training.outcome import Outcome, predict_parts, write_outcome, write_scores
from paretune.training.prepare import PreparedModel, allows_bf16_weights, prepare
from paretune.training.run_config import RunConfig
from paretune.training.run_state import TrainingResult

Report = Callable[[dict[str, Any]], None]


def train_run(
    run: Run,
    *,
    checkpoint: Path,
    report: Report,
    caches: ProcessCache | None = None,
    device: str = "cpu",
    halvings: int = 0,
    checkpoint_seconds: float = 60.0,
    keep_bytes: int | None = None,
) -> Outcome:
    """Train and evaluate one run of stage ``tune`` or ``final``.

    Args:
        run: with a concrete precision.
        checkpoint: where the run's state is kept while it trains.
        report: told ``step``, ``steps``, ``loss`` and at times ``note``.
        caches: caches of this process.
        device: ``cpu``, ``cuda``, ``cuda:1`` ...
        halvings: how often the micro-batch is halved from the start, because the system killed an
            earlier attempt for its memory.
        checkpoint_seconds: least time between two checkpoints.
        keep_bytes: trained tensors up to this size are kept; None: whatever their size.

    Raises:
        ParetuneError: the data, the model or the method cannot be used.
    """
    caches = caches or ProcessCache()
    method = methods.configure(run.method)
    if isinstance(method, ConfiguredBaseline):
        return _fit_baseline(run, method, caches)
    outcome = Outcome(result={"notes": []})
    seconds: dict[str, float] = {}
    micro_batch = run.training.micro_batch or run.training.batch_size
    # Where earlier attempts at this run ended for want of memory, it goes on where they came to.
    largest = min(micro_batch >> halvings, saved_micro_batch(checkpoint) or micro_batch)
    while micro_batch > max(1, largest):
        micro_batch = _halve(micro_batch, outcome, report)
    while not _train_within_memory(
        run,
        micro_batch,
        caches,
        outcome,
        seconds,
        report,
        checkpoint,
        device,
        checkpoint_seconds,
        keep_bytes,
    ):
        gc.collect()
        if micro_batch == 1:
            note = "out of memory even with a micro-batch of 1"
            outcome.result = {"outcome": "out_of_memory", "micro_batch": 1, "notes": [note]}
            break
        micro_batch = _halve(micro_batch, outcome, report)
    outcome.measured = {"environment": describe_environment(device), **outcome.measured}
    outcome.measured["wall_seconds"] = seconds
    return outcome


def _halve(micro_batch: int, outcome: Outcome, report: Report) -> int:
    micro_batch //= 2
    note = f"out of memory: the micro-batch is halved to {micro_batch}, accumulation doubled"
    outcome.result["notes"].append(note)
    report({"note": note})
    return micro_batch


def _train_within_memory(
    run: Run,
    micro_batch: int,
    bench: ProcessCache,
    outcome: Outcome,
    seconds: dict[str, float],
    report: Report,
    checkpoint: Path,
    device: str,
    checkpoint_seconds: float,
    keep_bytes: int | None,
) -> bool:
    """Train and score with this micro-batch into ``outcome``; False where memory ended."""
    started = time.monotonic()
    try:
        dataset = bench.dataset(run.task)
        loaded = bench.model(run.model, dataset, bf16=allows_bf16_weights(run))
        shape = measure_shape(loaded)
        prepared = prepare(run, loaded, device)
        enable_packing(prepared)
        seconds["load"] = time.monotonic() - started
        plan = RunConfig(
            run.training,
            run.learning_rate or 0.0,
            run.seed,
            micro_batch,
            prepared.classes(len(dataset.labels)),
            prepared.pad_id,
            device,
            "bf16" if run.training.precision == "bf16" else "fp32",
            checkpoint,
            checkpoint_seconds,
            prepared.pass_tokens,
            prepared.injection.learning_rate_factors,
            fit_target_scale(bench.parts(run).train),
        )
        _train_and_score(
            run,
            dataset,
            bench.parts(run),
            prepared,
            plan,
            bench,
            report,
            outcome,
            seconds,
            keep_bytes,
        )
        encoded = bench.encode(
            bench.parts(run).train, loaded, bench.source(run.model), prepared.max_length
        )
        trained, choices = outcome.result["trained_parameters"], len(encoded.ids[0])
        used = describe_environment(device, compiled=prepared.fleet.used_kernels)
        outcome.measured["environment"] = used
        packing = prepared.fleet.packing
        outcome.measured["kept_activations"] = packing is not None and bool(
            packing.activation_caches
        )
        known = estimate_cost(run, shape, trained, encoded.lengths, choices, device)
        outcome.measured["work"] = asdict(known)
    except BaseException as error:
        bench.drop_model()  # a method may be half inside it
        if isinstance(error, RuntimeError | MemoryError) and out_of_memory.is_out_of_memory(error):
            return False
        raise
    if prepared.method.trains is Trains.EVERYTHING:
        bench.drop_model()
    else:
        prepared.undo()
    return True


def _train_and_score(
    run: Run,
    dataset: Dataset,
    parts: Parts,
    prepared: PreparedModel,
    plan: RunConfig,
    bench: ProcessCache,
    report: Report,
    outcome: Outcome,
    seconds: dict[str, float],
    keep_bytes: int | None,
) -> None:
    source = bench.source(run.model)
    encoded = {
        name: bench.encode(examples, prepared.loaded, source, prepared.max_length)
        for name, examples in vars(parts).items()
        if examples
    }

    outcome.result["notes"].extend(
        enable_activation_cache(
            prepared, [*encoded.items()], source.weights_hash, plan.precision, plan.device
        )
    )
    model, fleet = prepared.loaded.model, prepared.fleet
    asked: dict[str, Any] = {
        "fleet": fleet,
        "pad_id": plan.pad_id,
        "device": plan.device,
        "precision": plan.precision,
    }
    evaluate = partial(
        mean_token_loss if dataset.kind == "translation" else predict_logits, model, **asked
    )
    translate = partial(generate, prepared.loaded, **asked)
    judge = make_evaluator(run, dataset, parts, encoded, plan, bench, evaluate, translate)
    data = encoded["train"]
    trained: TrainingResult = train(
        model, prepared.trained, data, judge.select, plan, fleet, report, prepared.head
    )
    seconds["train"] = trained.progress.seconds
    started = time.monotonic()
    try:
        given = predict_parts(trained, judge, encoded)
    except KeyboardInterrupt:
        trained.save()
        raise
    seconds["evaluation"] = time.monotonic() - started
    write_outcome(
        outcome,
        run,
        trained,
        given,
        tensors=prepared.trained,
        method=prepared.injection.parameters,
        head=prepared.head,
        plan=plan,
        encoded=encoded,
        parts=parts,
        dataset=dataset,
        notes=source.notes,
        keep_bytes=keep_bytes,
    )


def _fit_baseline(run: Run, method: ConfiguredBaseline, bench: ProcessCache) -> Outcome:
    """A baseline that fits on texts: no steps, no rate, no model."""
    dataset, parts = bench.dataset(run.task), bench.parts(run)
    started = time.monotonic()
    scale = fit_target_scale(parts.train)
    answer = method.fit(parts.train, len(dataset.labels), run.seed)
    outcome = Outcome(result={"notes": [], "steps": 0, "curve": [], "truncated": {}})
    fitted = time.monotonic()
    given = {}
    for name, examples in (("selection", parts.selection), ("test", parts.test)):
        if examples and dataset.kind == "translation":
            beside = OptionalMetrics(run.generation or Generation(), dataset.languages[1], bench)
            texts = answer(examples)
            given[name] = from_texts(texts, None, beside.segments(texts, references(examples)))
        elif examples:
            given[name] = from_scores(answer(examples), examples, scale)
    write_scores(outcome, given, parts, dataset, diverged=False)
    seconds = {"train": fitted - started, "evaluation": time.monotonic() - fitted}
    outcome.measured |= {"wall_seconds": seconds, "environment": describe_environment("cpu")}
    return outcome
