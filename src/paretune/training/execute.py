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
from paretune.data.scale import scale_of
from paretune.methods import options as method_options
from paretune.study import Generation, Run
from paretune.training import guards
from paretune.training.answering import (
    of_scores,
    of_texts,
    references,
)
from paretune.training.beside import Beside
from paretune.training.checkpoint import kept_micro_batch
from paretune.training.course import Trained
from paretune.training.ending import Outcome, answered, conclude, leave
from paretune.training.environment import environment
from paretune.training.evaluate import logits, token_loss
from paretune.training.judging import judge_of
from paretune.training.loop import train
from paretune.training.passes import pack
from paretune.training.plan import Plan
from paretune.training.prepare import Prepared, holds_bf16, prepare
from paretune.training.translate import translations
from paretune.training.trunk import keep_trunk
from paretune.training.work import shape_of, work
from paretune.training.workbench import Parts, Workbench

Report = Callable[[dict[str, Any]], None]


def execute_run(
    run: Run,
    *,
    checkpoint: Path,
    report: Report,
    bench: Workbench | None = None,
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
        bench: caches of this process.
        device: ``cpu``, ``cuda``, ``cuda:1`` ...
        halvings: how often the micro-batch is halved from the start, because the system killed an
            earlier attempt for its memory.
        checkpoint_seconds: least time between two checkpoints.
        keep_bytes: trained tensors up to this size are kept; None: whatever their size.

    Raises:
        ParetuneError: the data, the model or the method cannot be used.
    """
    bench = bench or Workbench()
    if not methods.trains_a_model(methods.get(run.method.name)):
        return _fit(run, bench)
    outcome = Outcome(result={"notes": []})
    seconds: dict[str, float] = {}
    micro_batch = run.training.micro_batch or run.training.batch_size
    # Where earlier attempts at this run ended for want of memory, it goes on where they came to.
    largest = min(micro_batch >> halvings, kept_micro_batch(checkpoint) or micro_batch)
    while micro_batch > max(1, largest):
        micro_batch = _halved(micro_batch, outcome, report)
    while not _fits(
        run,
        micro_batch,
        bench,
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
        micro_batch = _halved(micro_batch, outcome, report)
    outcome.measured = {"environment": environment(device), **outcome.measured}
    outcome.measured["wall_seconds"] = seconds
    return outcome


def _halved(micro_batch: int, outcome: Outcome, report: Report) -> int:
    micro_batch //= 2
    note = f"out of memory: the micro-batch is halved to {micro_batch}, accumulation doubled"
    outcome.result["notes"].append(note)
    report({"note": note})
    return micro_batch


def _fits(
    run: Run,
    micro_batch: int,
    bench: Workbench,
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
        loaded = bench.model(run.model, dataset, bf16=holds_bf16(run))
        shape = shape_of(loaded)
        prepared = prepare(run, loaded, device)
        pack(prepared)
        seconds["load"] = time.monotonic() - started
        plan = Plan(
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
            prepared.injection.rate_factors,
            scale_of(bench.parts(run).train),
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
        used = environment(device, compiled=prepared.fleet.compiled)
        outcome.measured["environment"] = used
        packing = prepared.fleet.packing
        outcome.measured["kept_activations"] = packing is not None and bool(packing.kept)
        known = work(run, shape, trained, encoded.lengths, choices, device)
        outcome.measured["work"] = asdict(known)
    except BaseException as error:
        bench.drop_model()  # a method may be half inside it
        if isinstance(error, RuntimeError | MemoryError) and guards.is_out_of_memory(error):
            return False
        raise
    if prepared.method.NAME == "full":
        bench.drop_model()
    else:
        prepared.undo()
    return True


def _train_and_score(
    run: Run,
    dataset: Dataset,
    parts: Parts,
    prepared: Prepared,
    plan: Plan,
    bench: Workbench,
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
        keep_trunk(prepared, [*encoded.items()], source.weights_hash, plan.precision, plan.device)
    )
    model, fleet = prepared.loaded.model, prepared.fleet
    asked: dict[str, Any] = {
        "fleet": fleet,
        "pad_id": plan.pad_id,
        "device": plan.device,
        "precision": plan.precision,
    }
    evaluate = partial(token_loss if dataset.kind == "translation" else logits, model, **asked)
    translate = partial(translations, prepared.loaded, **asked)
    judge = judge_of(run, dataset, parts, encoded, plan, bench, evaluate, translate)
    data = encoded["train"]
    trained: Trained = train(
        model, prepared.trained, data, judge.select, plan, fleet, report, prepared.head
    )
    seconds["train"] = trained.progress.seconds
    started = time.monotonic()
    try:
        given = answered(trained, judge, encoded)
    except KeyboardInterrupt:
        trained.save()
        raise
    seconds["evaluation"] = time.monotonic() - started
    leave(
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


def _fit(run: Run, bench: Workbench) -> Outcome:
    """A baseline that fits on texts: no steps, no rate, no model."""
    dataset, parts = bench.dataset(run.task), bench.parts(run)
    method = methods.get(run.method.name)
    options = method_options.parse(method.NAME, method.Options, run.method.options)
    started = time.monotonic()
    scale = scale_of(parts.train)
    answer = method.fit(parts.train, len(dataset.labels), options, run.seed)
    outcome = Outcome(result={"notes": [], "steps": 0, "curve": [], "truncated": {}})
    fitted = time.monotonic()
    given = {}
    for name, examples in (("selection", parts.selection), ("test", parts.test)):
        if examples and dataset.kind == "translation":
            beside = Beside(run.generation or Generation(), dataset.languages[1], bench)
            texts = answer(examples)
            given[name] = of_texts(texts, None, beside.segments(texts, references(examples)))
        elif examples:
            given[name] = of_scores(answer(examples), examples, scale)
    conclude(outcome, given, parts, dataset, diverged=False)
    seconds = {"train": fitted - started, "evaluation": time.monotonic() - fitted}
    outcome.measured |= {"wall_seconds": seconds, "environment": environment("cpu")}
    return outcome
