"""Trains runs: one alone, or several that share a backbone, in a session; and fits baselines.

A session is the runs that train now. Every run has its own data, order, dropout, learning rate,
evaluations and early stopping (:class:`~paretune.training.run_state.RunState`); what they share is
the passes through the model. One step of the session is one step of every run in it. A run that
ends leaves, and the next one takes its place. A run alone is a session of one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from paretune import methods
from paretune.files import has_valid_checksum
from paretune.measuring.costs import estimate_compute_cost
from paretune.measuring.machine import describe_environment
from paretune.measuring.memory import trim_heap_if_grown
from paretune.measuring.model_shape import describe_trained_part, measure_shape
from paretune.methods import ConfiguredBaseline, Trains
from paretune.objectives import ModelPredictions
from paretune.objectives.encoding import Encoded
from paretune.store.record import Claim, Report
from paretune.study import Generation, Run
from paretune.training import FleetOutOfMemoryError, Outcome, TrainerOptions
from paretune.training.caches import TEST_PARTS, ProcessCache
from paretune.training.checkpoint import (
    DAMAGED_NOTE,
    CheckpointFile,
    read_progress,
)
from paretune.training.evaluation.evaluator import (
    answers_of,
    make_evaluator,
    prepare_metrics,
    score_segments,
    write_scores,
)
from paretune.training.evaluation.forgetting import ForgettingProbe
from paretune.training.fleet import RunParameters, SharedModel, method_key
from paretune.training.forward.activation_cache import enable_activation_cache
from paretune.training.forward.passes import StepBatch
from paretune.training.interruption import defer_interrupts, fit_in_memory, is_out_of_memory
from paretune.training.loop import train_step
from paretune.training.prepare import allows_bf16_weights, configure_model
from paretune.training.run_state import RunState
from paretune.training.word_tables import WordTable, count_idle, train_occurring_rows


class Session:
    """Trains runs on one model until all have ended.

    Args:
        outcome: of the one run there is, whose method may change the model itself; None: all runs
            are of one kind (:func:`paretune.training.fleet.fleet_key`).
        micro_batch: in place of the one that the study asks for.
    """

    def __init__(
        self,
        caches: ProcessCache,
        options: TrainerOptions,
        finish: Callable[[Claim, Outcome], None],
        outcome: Outcome | None = None,
        micro_batch: int | None = None,
    ) -> None:
        self._caches, self._options, self._finish = caches, options, finish
        self._outcome, self._micro_batch = outcome, micro_batch
        self._alone = outcome is not None
        self._states: list[RunState] = []
        self._resident_bytes = 0
        self._model: SharedModel
        self._forgetting: ForgettingProbe

    def train(self, claims: Sequence[Claim], next_claims: Callable[[int], Sequence[Claim]]) -> None:
        """Train these runs, and then as many of ``next_claims`` as there is room for.

        Raises:
            ValueError: these runs cannot share batches (``capacity.count_states``).
            ParetuneError: the data, the model or the method cannot be used.
            StaleClaimError: another worker has the run that is alone.
        """
        try:
            started, run = time.monotonic(), claims[0].run
            bf16 = allows_bf16_weights(run)
            loaded = self._caches.run_model(run, bf16=bf16)
            self._shape = measure_shape(loaded)
            device, objective = self._options.device, self._caches.objective(run)
            self._model = SharedModel(run, loaded, device, objective, alone=self._alone)
            source = self._caches.source(run.model)
            compute, base_losses = self._model.compute, self._caches.forgetting
            self._forgetting = ForgettingProbe(source, objective, compute, base_losses)
            capacity, coming, changed = len(claims), list(claims), False
            while coming or self._states:
                if coming or changed:
                    self._admit(coming, started)
                self._step()
                self._evaluate()
                finished = [state for state in self._states if state.finished]
                coming, changed = [], bool(finished)
                if finished:
                    self._finish_runs(finished)
                    started = time.monotonic()
                    coming = list(next_claims(capacity - len(self._states)))
            if self._alone and self._model.prepared.method.trains is Trains.EVERYTHING:
                self._caches.drop_model()
            else:
                self._model.remove_all()
        except KeyboardInterrupt:
            with defer_interrupts():  # all runs are saved, also where a second signal comes
                for state in self._states:
                    if not state.closed:
                        state.save()
                self._caches.drop_model()
            raise
        except BaseException:  # always raised again
            self._caches.drop_model()  # a method may be half injected
            raise

    def _admit(self, claims: Sequence[Claim], started: float) -> None:
        """Put new runs, if any, into the model beside those that stay.

        New runs begin at their start or at their checkpoint.
        """
        for run in (claim.run for claim in claims):
            # What training costs the model is asked of the model without a method, too.
            if run.forgetting is not None and self._forgetting.needs_base(run):
                self._model.remove_all()
                configure_model(run, self._model.loaded, self._options.device)
                self._forgetting.score_base(run, self._model.loaded)
        new = [(claim, RunParameters(claim.run)) for claim in claims]
        # Runs of one method are neighbours; the sort is stable.
        placed = [state.parameters for state in self._states]
        placed += [parameters for _, parameters in new]
        placed.sort(key=lambda parameters: method_key(parameters.run))
        if not self._model.place(placed):
            raise ValueError("these runs cannot share batches")
        begun = [self._begin(claim, parameters) for claim, parameters in new]
        self._states += begun
        self._states.sort(key=lambda state: placed.index(state.parameters))
        # All runs skip the layers below everything that is trained.
        weights_key = self._caches.source(self._states[0].run.model).weights_key
        once = {data: name for state in self._states for name, data in state.encoded.items()}
        once |= {data.mismatched: name for data, name in once.items() if data.mismatched}
        notes = enable_activation_cache(
            self._model.prepared,
            self._model.compute,
            [(name, data) for data, name in once.items()],
            weights_key,
            self._caches.activations,
        )
        for state in begun:
            state.outcome.result["notes"].extend(notes)
            state.add_seconds("load", (time.monotonic() - started) / len(begun))

    def _begin(self, claim: Claim, parameters: RunParameters) -> RunState:
        run, prepared = claim.run, self._model.prepared
        outcome = self._outcome or Outcome(result={"notes": []})
        dataset, parts = self._caches.dataset(run.task), self._caches.parts(run)
        source, loaded = self._caches.source(run.model), prepared.loaded
        objective = self._caches.objective(run, loaded.anatomy.max_length)
        encoded = {
            name: self._caches.encode(
                examples, loaded, source, prepared.max_length, objective.encoder(name)
            )
            for name, examples in vars(parts).items()
            if examples
        }
        if run.readout == "reward":
            encoded = self._add_reference(run, encoded)
        if objective.answer_scores is not None:
            encoded |= {
                answers_of(name): self._caches.encode(
                    examples, loaded, source, prepared.max_length, objective.answer_scores.encode
                )
                for name, examples in vars(parts).items()
                if examples and name != "train"
            }
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
            micro_batch=self._micro_batch or run.training.micro_batch or run.training.batch_size,
            pass_overhead_tokens=self._model.pass_overhead_tokens(parameters),
            body=prepared.method.method.body_training,
        )
        evaluator = make_evaluator(
            run, batch, parts, self._caches, self._model, parameters, encoded
        )
        if claim.checkpoint.is_file() and not has_valid_checksum(claim.checkpoint):
            claim.checkpoint.unlink()
            outcome.result["notes"].append(DAMAGED_NOTE)
        tables: list[WordTable] = []
        if self._alone:
            tables = train_occurring_rows(prepared, encoded["train"], run.training.backend)
        return RunState(
            claim,
            parameters,
            batch,
            parts,
            encoded,
            evaluator,
            CheckpointFile(claim.checkpoint, self._options.checkpoint_seconds),
            outcome,
            prepared.num_classes(objective, len(dataset.labels)),
            self._options.device,
            tables,
        )

    def _add_reference(self, run: Run, parts: Mapping[str, Encoded]) -> dict[str, Encoded]:
        """The parts with what the model makes of their texts before training.

        Computed once for all runs on them; full fine-tuning, which changes the weights, has it too.
        """
        source, cache = self._caches.source(run.model), self._caches.encoded
        loaded, beta = self._caches.loaded, run.training.preference_beta
        about = source.weights_hash, *loaded, self._model.compute, beta
        keys = {name: (*about, data) for name, data in parts.items()}
        if missing := {keys[n]: data for n, data in parts.items() if keys[n] not in cache}:
            scored = self._model.add_reference([*missing.values()])
            cache.update(zip(missing, scored, strict=True))
        return {name: cache[key] for name, key in keys.items()}

    def _step(self) -> None:
        """One optimizer step of every run; each gets its share of the time, by tokens."""
        started, states = time.monotonic(), self._states
        batches = [state.next_batch() for state in states]
        tokens = [batch.tokens for batch in batches]
        try:
            train_step(states, batches, self._model)
        finally:
            seconds = time.monotonic() - started
            for state, count in zip(states, tokens, strict=True):
                state.progress.seconds += seconds * count / max(1, sum(tokens))

    def _evaluate(self) -> None:
        """Score the runs whose turn it is, all in the same passes."""
        due = [state for state in self._states if state.needs_evaluation]
        started = time.monotonic()
        self._model.precompute({state.parameters: state.encoded for state in due}, "selection")
        for state in due:
            state.evaluate()
        if due:
            self._resident_bytes = trim_heap_if_grown(self._resident_bytes)
        for state in due:
            state.progress.seconds += (time.monotonic() - started) / len(due)
        for state in self._states:
            state.save_if_due()

    def _finish_runs(self, finished: Sequence[RunState]) -> None:
        """Write the outcomes of these runs, and take them out; alone, a lost claim is raised."""
        lost = [state.lost for state in finished if state.lost is not None]
        if self._alone and lost:
            raise lost[0]
        owned = [state for state in finished if state.lost is None]
        started = time.monotonic()
        for state in owned:
            state.restore_best()
        encoded = {state.parameters: state.encoded for state in owned if state.has_best_weights}
        for part in TEST_PARTS:
            self._model.precompute(encoded, part)
        if self._model.objective.generates:
            # Before the first of them has the model for itself, to generate.
            self._model.precompute(encoded, "selection")
        fleet = self._model.prepared.fleet
        cached = fleet.packing is not None and bool(fleet.packing.activation_caches)
        predictions = [state.predict() for state in owned]
        seconds = (time.monotonic() - started) / max(1, len(owned))
        for state, predicted in zip(owned, predictions, strict=True):
            state.add_seconds("train", state.progress.seconds)
            state.add_seconds("evaluation", seconds)
            self._write_outcome(state, predicted, cached=cached)
            state.outcome.measured |= {
                "environment": describe_environment(self._options.device),
                "kept_activations": cached,
                **({} if self._alone else {"fleet": len(self._states)}),
            }
            self._finish(state.claim, state.outcome)
            state.closed = True
        self._states = [state for state in self._states if state not in finished]

    def _write_outcome(
        self, state: RunState, predicted: Mapping[str, ModelPredictions], *, cached: bool
    ) -> None:
        run, data = state.run, state.encoded["train"]
        dataset, source = self._caches.dataset(run.task), self._caches.source(run.model)
        head, keep_bytes = self._model.prepared.head, self._options.keep_bytes
        state.write_outcome(predicted, dataset, head, source.notes, keep_bytes)
        trained, choices = state.outcome.result["trained_parameters"], len(data.ids[0])
        part = describe_trained_part(
            run, self._model.loaded, trained, *count_idle(state.tables), skips_below=cached
        )
        cost = estimate_compute_cost(
            run, self._shape, part, data.lengths, choices, self._options.device, data.mean_scored
        )
        state.outcome.measured["work"] = asdict(cost)
        if first := state.progress.first_gradients:
            proposer = run.method.proposer
            assert proposer is not None  # noqa: S101  (the run is a trial)
            state.outcome.measured |= proposer.measure_trial(run, self._model.loaded, first)
        if run.forgetting is None or not state.has_best_weights:
            return
        prepared = self._model.place_alone(state.parameters)
        measured, notes = self._forgetting.score_trained(state.run, prepared)
        state.outcome.result["notes"].extend(notes)
        if measured is not None:
            state.outcome.result["forgetting"] = measured


def train_run(
    run: Run,
    *,
    checkpoint: Path,
    report: Report = lambda progress: None,
    caches: ProcessCache | None = None,
    options: TrainerOptions | None = None,
    halvings: int = 0,
) -> Outcome:
    """Train and evaluate one run alone; out of memory, start again with the micro-batch halved.

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
    outcome = Outcome(result={"notes": []})

    def attempt(micro_batch: int) -> None:
        session = Session(caches, options, lambda *_: None, outcome, micro_batch)
        session.train([Claim(run, checkpoint, report)], lambda free: ())

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
    if not fit_in_memory(attempt, micro_batch, note_halving):
        note = "out of memory even with a micro-batch of 1"
        outcome.result = {"outcome": "out_of_memory", "micro_batch": 1, "notes": [note]}
        outcome.measured["environment"] = describe_environment(options.device)
    return outcome


def train_fleet(
    claims: Sequence[Claim],
    next_claims: Callable[[int], Sequence[Claim]],
    finish: Callable[[Claim, Outcome], None],
    *,
    caches: ProcessCache | None = None,
    options: TrainerOptions | None = None,
) -> None:
    """Train several runs of one kind together, and those that come while there is room.

    Args:
        claims: at least one; no more train at once.
        next_claims: at most so many further runs of the same kind
            (:func:`paretune.training.fleet.fleet_key`).
        finish: called with every run that has ended, but not with one that another worker has.

    Raises:
        FleetOutOfMemoryError: they do not fit in memory together.
        ValueError: these runs cannot share batches.
        ParetuneError: the data, the model or the method cannot be used.
    """
    session = Session(caches or ProcessCache(), options or TrainerOptions(), finish)
    try:
        session.train(claims, next_claims)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise FleetOutOfMemoryError from error
        raise


def fit_baseline(run: Run, method: ConfiguredBaseline, caches: ProcessCache) -> Outcome:
    """Fit a baseline on the training part, and score it."""
    dataset, parts = caches.dataset(run.task), caches.parts(run)
    objective = dataset.objective
    started = time.monotonic()
    scale = objective.fit_target(parts.train)
    predict = method.fit(parts.train, len(dataset.labels), run.seed)
    outcome = Outcome(result={"notes": [], "steps": 0, "curve": [], "truncated": {}})
    fitted = time.monotonic()
    predictions = {}
    for part in parts.reported:
        examples = parts.named(part)
        predictions[part] = objective.predict(predict(examples), examples, scale)
        if objective.generates:
            generation = run.generation or Generation()
            scorers = prepare_metrics(generation, dataset.language, caches)
            texts, references = predictions[part].prediction, objective.references(examples)
            segment = score_segments(scorers, texts, references)
            predictions[part] = replace(predictions[part], segment=segment)
    write_scores(outcome, run, predictions, parts, dataset, diverged=False)
    seconds = {"train": fitted - started, "evaluation": time.monotonic() - fitted}
    outcome.measured = {"wall_seconds": seconds, "environment": describe_environment("cpu")}
    return outcome
