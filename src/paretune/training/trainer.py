"""Trains runs: one alone, or several that share a backbone; handles running out of memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from paretune import methods
from paretune.measuring.machine import describe_environment
from paretune.methods import ConfiguredBaseline
from paretune.store.record import Claim, Report
from paretune.study import Generation, Run
from paretune.training import FleetOutOfMemoryError, Outcome, TrainerOptions
from paretune.training.caches import ProcessCache
from paretune.training.checkpoint import read_progress
from paretune.training.evaluation.evaluator import prepare_metrics, score_segments, write_scores
from paretune.training.interruption import defer_interrupts, fit_in_memory, is_out_of_memory
from paretune.training.session import Session


class Trainer:
    """Trains and evaluates runs of the stages ``tune`` and ``final``."""

    def __init__(
        self, caches: ProcessCache | None = None, options: TrainerOptions | None = None
    ) -> None:
        self.caches, self.options = caches or ProcessCache(), options or TrainerOptions()

    def train_run(self, claim: Claim, halvings: int = 0) -> Outcome:
        """Train a run alone; out of memory, start again with the micro-batch halved.

        A run that was checkpointed with a smaller micro-batch keeps it.

        Args:
            halvings: how often the micro-batch is halved from the start, because the system killed
                earlier attempts for their memory.

        Raises:
            ParetuneError: the data, the model or the method cannot be used.
            StaleClaimError: another worker has the run.
        """
        run = claim.run
        method = methods.configure(run.method)
        if isinstance(method, methods.ConfiguredBaseline):
            return fit_baseline(run, method, self.caches)
        outcome = Outcome(result={"notes": []})

        def attempt(micro_batch: int) -> None:
            session = Session(self.caches, self.options, lambda *_: None, outcome, micro_batch)
            self._train(session, [claim], lambda free: ())

        def note_halving(micro_batch: int) -> None:
            note = (
                f"out of memory: the micro-batch is halved to {micro_batch}, accumulation doubled"
            )
            outcome.result["notes"].append(note)
            claim.report({"note": note})

        micro_batch = run.training.micro_batch or run.training.batch_size
        progress = read_progress(claim.checkpoint)
        largest = min(micro_batch >> halvings, progress.micro_batch if progress else micro_batch)
        while micro_batch > max(1, largest):
            micro_batch //= 2
            note_halving(micro_batch)
        if not fit_in_memory(attempt, micro_batch, note_halving):
            note = "out of memory even with a micro-batch of 1"
            outcome.result = {"outcome": "out_of_memory", "micro_batch": 1, "notes": [note]}
            outcome.measured["environment"] = describe_environment(self.options.device)
        return outcome

    def train_fleet(
        self,
        claims: Sequence[Claim],
        next_claims: Callable[[int], Sequence[Claim]],
        finish: Callable[[Claim, Outcome], None],
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
        try:
            self._train(Session(self.caches, self.options, finish), claims, next_claims)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise FleetOutOfMemoryError from error
            raise

    def _train(
        self,
        session: Session,
        claims: Sequence[Claim],
        next_claims: Callable[[int], Sequence[Claim]],
    ) -> None:
        try:
            session.train(claims, next_claims)
        except KeyboardInterrupt:
            with defer_interrupts():  # all runs are saved, also where a second signal comes
                session.save_checkpoints()
                self.caches.drop_model()
            raise
        except BaseException:  # always raised again
            self.caches.drop_model()  # a method may be half injected
            raise


def train_run(
    run: Run,
    *,
    checkpoint: Path,
    report: Report = lambda progress: None,
    caches: ProcessCache | None = None,
    options: TrainerOptions | None = None,
    halvings: int = 0,
) -> Outcome:
    """Train and evaluate one run alone (:meth:`Trainer.train_run`)."""
    return Trainer(caches, options).train_run(Claim(run, checkpoint, report), halvings)


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
