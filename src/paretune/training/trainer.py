"""Trains a run, or fits a baseline.

A :class:`Session` is the story of one run: the model is loaded, the method goes into it, steps and
evaluations follow from the start or from the checkpoint, and the best weights write the outcome.
"""

from __future__ import annotations

import gc
import time
from dataclasses import asdict, replace
from pathlib import Path

from paretune import methods
from paretune.data.batch import pass_overhead_tokens
from paretune.files import has_valid_checksum
from paretune.measuring.costs import estimate_compute_cost
from paretune.measuring.machine import describe_environment
from paretune.measuring.memory import trim_heap_if_grown
from paretune.measuring.model_shape import ModelShape, describe_trained_part, measure_shape
from paretune.methods import ConfiguredBaseline, Trains
from paretune.models.load import LoadedModel
from paretune.models.quantised import count_parameters
from paretune.objectives import Objective
from paretune.objectives.encoding import Encoded
from paretune.preparation import Parts, ProcessCache
from paretune.store.record import Claim, Report
from paretune.study import MethodSpec, Run
from paretune.training import Outcome, TrainerOptions
from paretune.training.checkpoint import (
    DAMAGED_NOTE,
    CheckpointFile,
    read_progress,
)
from paretune.training.evaluation.evaluator import (
    answers_of,
    make_evaluator,
    score_answers,
)
from paretune.training.evaluation.forgetting import ForgettingProbe
from paretune.training.evaluation.predict import evaluate
from paretune.training.forward.activation_cache import enable_activation_cache
from paretune.training.forward.passes import Compute, Forward, StepBatch
from paretune.training.forward.select import make_forward
from paretune.training.interruption import defer_interrupts, is_out_of_memory
from paretune.training.loop import train_step
from paretune.training.prepare import (
    PreparedModel,
    allows_bf16_weights,
    configure_model,
    prepare,
)
from paretune.training.run_state import RunState
from paretune.training.word_tables import count_idle, train_occurring_rows


class Session:
    """Trains one run to its end.

    Args:
        outcome: what the run leaves; written when it has ended.
        micro_batch: in place of the one that the study asks for.
    """

    def __init__(
        self,
        claim: Claim,
        caches: ProcessCache,
        options: TrainerOptions,
        outcome: Outcome,
        micro_batch: int,
    ) -> None:
        self._claim = claim
        self._run = claim.run
        self._caches = caches
        self._options = options
        self._outcome = outcome
        self._micro_batch = micro_batch
        self._compute = Compute.of(claim.run, options.device)
        self._resident_bytes = 0
        self._loaded: LoadedModel
        self._shape: ModelShape
        self._forgetting: ForgettingProbe
        self._prepared: PreparedModel
        self._forward: Forward

    def train(self) -> None:
        """Train from the start or from the checkpoint, evaluate, and write the outcome.

        Raises:
            ParetuneError: the data, the model or the method cannot be used.
            StaleClaimError: another worker has the run.
        """
        state = None
        try:
            started = time.monotonic()
            run = self._run
            caches = self._caches
            self._loaded = caches.run_model(run, bf16=allows_bf16_weights(run))
            self._shape = measure_shape(self._loaded)
            source, objective = caches.source(run.model), caches.objective(run)
            self._forgetting = ForgettingProbe(source, objective, self._compute, caches.forgetting)
            if run.forgetting is not None and self._forgetting.needs_base(run):
                # The model without a method is asked the same as with one.
                configure_model(run, self._loaded, self._options.device)
                self._forgetting.score_base(run, self._loaded)
            state = self._begin()
            state.add_seconds("load", time.monotonic() - started)
            while state.needs_evaluation or not state.finished:
                started = time.monotonic()
                try:
                    if not state.needs_evaluation:
                        train_step(state, state.next_batch(), self._forward)
                    if state.needs_evaluation:
                        state.evaluate()
                        self._resident_bytes = trim_heap_if_grown(self._resident_bytes)
                finally:
                    state.progress.seconds += time.monotonic() - started
                state.save_if_due()
            self._finish(state)
            if self._prepared.method.trains is Trains.EVERYTHING:
                self._caches.drop_model()
            else:
                self._prepared.undo()
        except KeyboardInterrupt:
            with defer_interrupts():  # the run is saved, also where a second signal comes
                if state is not None:
                    state.save()
                self._caches.drop_model()
            raise
        except BaseException:  # always raised again
            self._caches.drop_model()  # a method may be half injected
            raise

    def _place(self, run: Run) -> None:
        self._prepared = prepare(run, self._loaded, self._options.device)
        self._forward = make_forward(self._prepared, self._compute, run.training.backend)

    def _begin(self) -> RunState:
        """The run at its start or at its checkpoint."""
        run = self._run
        caches = self._caches
        loaded = self._loaded
        total_parameters = count_parameters(loaded.model)
        self._place(run)
        dataset = caches.dataset(run.task)
        parts = caches.parts(run)
        objective = caches.objective(run, loaded.anatomy.max_length)
        encoded = self._encode(parts, objective)
        prepared = self._prepared
        trained = sum(p.numel() for p in prepared.trained.values())
        total_parameters += sum(p.numel() for p in prepared.injection.parameters.values())
        batch = StepBatch(
            data=encoded["train"],
            seed=run.seed,
            objective=objective,
            loss_options=objective.loss_options(
                parts.train,
                dataset.labels,
                run.training.label_smoothing,
                run.training.class_weights,
            ),
            micro_batch=self._micro_batch,
            pass_overhead_tokens=pass_overhead_tokens(
                trained, total_parameters, self._compute.device
            ),
            body=prepared.method.method.body_training,
        )
        evaluator = make_evaluator(run, batch, parts, caches, prepared, self._forward, encoded)
        checkpoint, notes = self._claim.checkpoint, self._outcome.result["notes"]
        if checkpoint.is_file() and not has_valid_checksum(checkpoint):
            checkpoint.unlink()
            notes.append(DAMAGED_NOTE)
        state = RunState(
            self._claim,
            prepared,
            batch,
            parts,
            encoded,
            evaluator,
            CheckpointFile(checkpoint, self._options.checkpoint_seconds),
            self._outcome,
            prepared.num_classes(objective, len(dataset.labels)),
            self._options.device,
            train_occurring_rows(prepared, encoded["train"], run.training.backend),
        )
        once = {data: name for name, data in encoded.items()}
        once |= {data.mismatched: name for data, name in once.items() if data.mismatched}
        notes.extend(
            enable_activation_cache(
                prepared,
                self._compute,
                [(name, data) for data, name in once.items()],
                caches.source(run.model).weights_key,
                caches.activations,
            )
        )
        return state

    def _encode(self, parts: Parts, objective: Objective) -> dict[str, Encoded]:
        """The parts of the data by name, and where answers are scored the texts of all labels."""
        run = self._run
        caches = self._caches
        loaded = self._loaded
        source, max_length = caches.source(run.model), self._prepared.max_length
        examples_by_part = {name: examples for name, examples in vars(parts).items() if examples}
        encoded = {
            name: caches.encode(examples, loaded, source, max_length, objective.encoder(name))
            for name, examples in examples_by_part.items()
        }
        if run.readout == "reward":
            # The likelihoods of the texts before training, computed once for all runs on them.
            cache = caches.encoded
            about = source.weights_hash, *caches.loaded, self._compute, run.training.preference_beta
            keys = {name: (*about, data) for name, data in encoded.items()}
            if missing := {keys[n]: data for n, data in encoded.items() if keys[n] not in cache}:
                self._prepared.undo()
                self._place(run.model_copy(update={"method": MethodSpec(name="untuned")}))
                cache.update({key: self._score_reference(data) for key, data in missing.items()})
                self._prepared.undo()
                self._place(run)
            encoded = {name: cache[key] for name, key in keys.items()}
        if objective.answer_scores is not None:
            encode = objective.answer_scores.encode
            encoded |= {
                answers_of(name): caches.encode(examples, loaded, source, max_length, encode)
                for name, examples in examples_by_part.items()
                if name != "train"
            }
        return encoded

    def _score_reference(self, data: Encoded) -> Encoded:
        """The data with what rewards are counted from, by the model as it is."""
        collector = self._caches.objective(self._run).collector
        rows = evaluate(self._forward, data, collector).tolist()
        beta = self._run.training.preference_beta
        divisors = [[1 / beta] * len(row) for row in rows]
        mismatched = data.mismatched and self._score_reference(data.mismatched)
        return replace(data, reference=rows, divisors=divisors, mismatched=mismatched)

    def _finish(self, state: RunState) -> None:
        run = self._run
        outcome = self._outcome
        device = self._options.device
        started = time.monotonic()
        state.restore_best()
        packing = self._prepared.context.packing
        cached = packing is not None and bool(packing.activation_caches)
        predictions = state.predict()
        state.add_seconds("train", state.progress.seconds)
        state.add_seconds("evaluation", time.monotonic() - started)
        dataset, source = self._caches.dataset(run.task), self._caches.source(run.model)
        state.write_outcome(predictions, dataset, source.notes, self._options.keep_bytes)
        # Operations and memory of this run serve to predict the cost of others.
        data = state.encoded["train"]
        trained, choices = outcome.result["trained_parameters"], len(data.ids[0])
        part = describe_trained_part(
            run, self._loaded, trained, *count_idle(state.tables), skips_below=cached
        )
        cost = estimate_compute_cost(
            run, self._shape, part, data.lengths, choices, device, data.mean_scored
        )
        outcome.measured["work"] = asdict(cost)
        outcome.measured["environment"] = describe_environment(device)
        outcome.measured["kept_activations"] = cached
        if first := state.progress.first_gradients:
            proposer = run.method.proposer
            assert proposer is not None  # noqa: S101  (the run is a trial)
            outcome.measured |= proposer.measure_trial(run, self._loaded, first)
        if run.forgetting is not None and state.has_best_weights:
            measured, notes = self._forgetting.score_trained(run, self._prepared)
            outcome.result["notes"].extend(notes)
            if measured is not None:
                outcome.result["forgetting"] = measured


def train_run(
    run: Run,
    *,
    checkpoint: Path,
    report: Report = lambda progress: None,
    caches: ProcessCache | None = None,
    options: TrainerOptions | None = None,
    halvings: int = 0,
) -> Outcome:
    """Train and evaluate one run; out of memory, start again with the micro-batch halved.

    A run that was checkpointed with a smaller micro-batch keeps it.

    Args:
        checkpoint, report: as of a :class:`~paretune.store.record.Claim`.
        halvings: how often the micro-batch is halved from the start, because the system killed
            earlier attempts for their memory.

    Raises:
        ParetuneError: the data, the model or the method cannot be used.
        StaleClaimError: another worker has the run.
    """
    caches, options = caches or ProcessCache(), options or TrainerOptions()
    method = methods.configure(run.method)
    if isinstance(method, methods.ConfiguredBaseline):
        return fit_baseline(run, method, caches)
    claim = Claim(run, checkpoint, report)
    outcome = Outcome(result={"notes": []})

    def note_halving(micro_batch: int) -> None:
        note = f"out of memory: the micro-batch is halved to {micro_batch}, accumulation doubled"
        outcome.result["notes"].append(note)
        report({"note": note})

    micro_batch = run.training.micro_batch or run.training.batch_size
    progress = read_progress(checkpoint)
    largest = min(micro_batch >> halvings, progress.micro_batch if progress else micro_batch)
    while micro_batch > max(1, largest):
        micro_batch //= 2
        note_halving(micro_batch)
    while True:
        try:
            Session(claim, caches, options, outcome, micro_batch).train()
            return outcome
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        gc.collect()  # the tensors were freed with the frames of the attempt
        if micro_batch == 1:
            break
        micro_batch //= 2
        note_halving(micro_batch)
    note = "out of memory even with a micro-batch of 1"
    outcome.result = {"outcome": "out_of_memory", "micro_batch": 1, "notes": [note]}
    outcome.measured["environment"] = describe_environment(options.device)
    return outcome


def fit_baseline(run: Run, method: ConfiguredBaseline, caches: ProcessCache) -> Outcome:
    """Fit a baseline on the training part, and score it."""
    dataset, parts = caches.dataset(run.task), caches.parts(run)
    objective = dataset.objective
    started = time.monotonic()
    scale = objective.fit_target(parts.train)
    predict = method.fit(parts.train, len(dataset.labels), run.seed)
    outcome = Outcome(result={"notes": [], "steps": 0, "curve": [], "truncated": {}})
    fitted = time.monotonic()
    score_answers(
        outcome,
        run,
        lambda examples: objective.predict(predict(examples), examples, scale),
        parts,
        caches,
    )
    seconds = {"train": fitted - started, "evaluation": time.monotonic() - fitted}
    outcome.measured = {"wall_seconds": seconds, "environment": describe_environment("cpu")}
    return outcome
