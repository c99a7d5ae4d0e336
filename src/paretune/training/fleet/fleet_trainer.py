"""A fleet: runs that train together on one backbone, each as it would alone.

Every run has its own data, order, dropout, rate, schedule, guard, evaluations and early stop
(:class:`~paretune.training.run_state.RunState`); what they share is the passes through the model. A
step of the fleet is one step of every run in it. A run that ends leaves, and the next one takes its
place. In a shared batch, packed (:mod:`paretune.training.forward.packed`) or padded
(:mod:`paretune.training.forward.padded`), a run's rows, its attention and its dropout are its own
whatever stands beside them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch

from paretune.errors import StaleClaimError
from paretune.measuring.compute_cost import ComputeCost
from paretune.measuring.environment import describe_environment
from paretune.objectives.encoding import Encoded
from paretune.objectives.target_scale import fit_target_scale
from paretune.study import Generation, derive_seed
from paretune.training.caches import Parts, ProcessCache
from paretune.training.estimate_cost import estimate_cost, measure_shape
from paretune.training.evaluation.evaluator import Evaluator, make_evaluator
from paretune.training.evaluation.generate import generate
from paretune.training.fleet.evaluate import evaluate_runs, max_stack_tokens
from paretune.training.fleet.shared_model import RunParameters, SharedModel, method_key
from paretune.training.forward.packed import MicroBatch, training_passes
from paretune.training.interruption import defer_interrupts
from paretune.training.job import Job
from paretune.training.objective import weight
from paretune.training.outcome import Outcome, predict_parts, write_outcome
from paretune.training.precision import autocast
from paretune.training.prepare import allows_bf16_weights
from paretune.training.run_config import RunConfig
from paretune.training.run_state import RunState, apply_gradients


@dataclass(eq=False)
class Slot:
    """A run in the fleet."""

    job: Job
    member: RunParameters
    parts: Parts
    encoded: dict[str, Encoded] = field(default_factory=dict)
    outcome: Outcome = field(default_factory=lambda: Outcome(result={"notes": []}))
    seconds: dict[str, float] = field(default_factory=dict)
    ready: dict[int, Any] = field(default_factory=dict)
    lost: bool = False
    """Whether it is no longer this fleet's: another worker has it, or it has ended."""

    plan: RunConfig = field(init=False)
    judge: Evaluator = field(init=False)
    course: RunState = field(init=False)

    def spent(self, on: str, seconds: float) -> None:
        """Count seconds of this run."""
        self.seconds[on] = self.seconds.get(on, 0.0) + seconds

    def keep_as_it_is(self) -> None:
        """Write its checkpoint, where it has begun and is still ours."""
        if hasattr(self, "course") and not self.lost:
            self.course.save()


class FleetTrainer:
    """Trains runs of one kind (:func:`paretune.training.fleet.capacity.fleet_key`).

    Args:
        bench: caches of this process.
        device: where to train.
        finish: given every run that has ended, with what it leaves.
        checkpoint_seconds: least time between two checkpoints of a run.
        keep_bytes: trained tensors up to this size are kept; None: whatever their size.
    """

    def __init__(
        self,
        bench: ProcessCache,
        device: str,
        finish: Callable[[Job, Outcome], None],
        *,
        checkpoint_seconds: float = 60.0,
        keep_bytes: int | None = None,
    ) -> None:
        self._bench, self._device, self._finish = bench, device, finish
        self._checkpoint_seconds, self._keep_bytes = checkpoint_seconds, keep_bytes
        self._seats: list[Slot] = []
        self._changed = False
        self._formation: SharedModel

    def train(self, jobs: Sequence[Job], more: Callable[[int], Sequence[Job]]) -> None:
        """Train these runs, and those that come while seats are free.

        Args:
            jobs: at least one; so many seats there are.
            more: at most so many further runs of the same kind; none ends the asking.

        Raises:
            ValueError: these runs cannot share batches (:func:`paretune.training.seats`).
            ParetuneError: the data, the model or the method cannot be used.
        """
        run = jobs[0].run
        started = time.monotonic()
        loaded = self._bench.model(
            run.model, self._bench.dataset(run.task), bf16=allows_bf16_weights(run)
        )
        self._shape = measure_shape(loaded)
        self._formation = SharedModel(run, loaded, self._device)
        places, coming = len(jobs), list(jobs)
        try:
            while coming or self._seats:
                if coming:
                    self._seat(coming, (time.monotonic() - started) / len(coming))
                elif self._changed:
                    self._form()
                self._changed = False
                self._step()
                self._evaluate()
                ended = [seat for seat in self._seats if seat.lost or seat.course.over]
                if ended:
                    self._finish_runs(ended)
                    coming = list(more(places - len(self._seats)))
                    started = time.monotonic()
                else:
                    coming = []
        except KeyboardInterrupt:
            with (
                defer_interrupts()
            ):  # workers are told again: the second run is kept like the first
                for seat in self._seats:
                    seat.keep_as_it_is()
                self._bench.drop_model()
            raise
        except BaseException:  # whatever it is goes on up
            self._bench.drop_model()  # a method may be half inside it
            raise
        self._formation.dissolve()

    def _seat(self, jobs: Sequence[Job], loading_seconds: float) -> None:
        new = [Slot(job, RunParameters(job.run), self._bench.parts(job.run)) for job in jobs]
        self._seats += new
        # Those of one method next to one another; a stable sort, so the same runs stand the same.
        self._seats.sort(key=lambda seat: method_key(seat.job.run))
        self._form(new)
        for seat in new:
            self._start(seat)
            seat.spent("load", loading_seconds)

    def _form(self, new: Sequence[Slot] = ()) -> None:
        formation = self._formation
        if not formation.form([seat.member for seat in self._seats]):
            raise ValueError("these runs cannot share batches")
        prepared = formation.prepared
        run = self._seats[0].job.run
        source = self._bench.source(run.model)
        for seat in new:
            seat.encoded = {
                name: self._bench.encode(examples, prepared.loaded, source, prepared.max_length)
                for name, examples in vars(seat.parts).items()
                if examples
            }
        once = {id(data): (name, data) for s in self._seats for name, data in s.encoded.items()}
        precision = "bf16" if run.training.precision == "bf16" else "fp32"
        notes = formation.keep_trunk([*once.values()], source.weights_hash, precision)
        for seat in new:
            seat.outcome.result["notes"].extend(notes)

    def _start(self, seat: Slot) -> None:
        run, prepared = seat.job.run, self._formation.prepared
        dataset = self._bench.dataset(run.task)
        seat.plan = RunConfig(
            run.training,
            run.learning_rate or 0.0,
            run.seed,
            run.training.micro_batch or run.training.batch_size,
            prepared.classes(len(dataset.labels)),
            prepared.pad_id,
            self._device,
            "bf16" if run.training.precision == "bf16" else "fp32",
            seat.job.checkpoint,
            self._checkpoint_seconds,
            self._formation.pass_tokens(seat.member),
            seat.member.rate_factors,
            fit_target_scale(seat.parts.train),
        )

        def evaluate(data: Encoded) -> Any:
            found = seat.ready.pop(id(data), None)
            return self._found([(seat, data)])[0] if found is None else found

        seat.judge = make_evaluator(
            run,
            dataset,
            seat.parts,
            seat.encoded,
            seat.plan,
            self._bench,
            evaluate,
            partial(self._translate, seat),
        )
        seat.course = RunState(
            self._formation.trained(seat.member),
            seat.encoded["train"],
            seat.judge.select,
            seat.plan,
            seat.job.report,
            self._formation.loaded.head_parameters,
        )
        seat.spent("train", seat.course.progress.seconds)
        seat.course.clock = lambda: seat.seconds["train"]

    def _step(self) -> None:
        """One optimiser step of every run."""
        started = time.monotonic()
        formation, packing = self._formation, self._formation.fleet.packing
        formation.loaded.model.train()
        # What was interrupted in an evaluation goes on with it.
        idle = [s.course.over or s.course.due for s in self._seats]
        batches = [
            [] if waits else s.course.batch() for s, waits in zip(self._seats, idle, strict=True)
        ]
        cuts = [
            training_passes(s.course.data, batch, s.plan.micro_batch, s.plan.pass_tokens, packing)
            if batch
            else []
            for s, batch in zip(self._seats, batches, strict=True)
        ]
        sides = [
            formation.sides(s.course.data, cut) for s, cut in zip(self._seats, cuts, strict=True)
        ]
        losses = [0.0] * len(self._seats)
        for stack in formation.stacks(sides, max_stack_tokens(self._device)):
            self._pass(stack, cuts, batches, losses)
        formation.hand_out()
        tokens = [sum(n * length for n, length in own) for own in sides]
        with defer_interrupts():  # or resumed runs of a fleet would not be where they were together
            for seat, loss, batch in zip(self._seats, losses, batches, strict=True):
                if batch:
                    self._descend(seat, loss)
        seconds = time.monotonic() - started
        for seat, own in zip(self._seats, tokens, strict=True):
            seat.spent("train", seconds * own / max(1, sum(tokens)))

    def _pass(
        self,
        stack: dict[int, int],
        cuts: Sequence[Sequence[list[int]]],
        batches: Sequence[list[int]],
        losses: list[float],
    ) -> None:
        """Forward and backward of one pass of some of the runs; adds to their losses."""
        formation = self._formation
        shares: list[MicroBatch] = []
        seeds = []
        for r, seat in enumerate(self._seats):
            part = stack.get(r)
            shares.append((seat.course.data, () if part is None else cuts[r][part]))
            seeds.append(
                derive_seed(seat.plan.seed, "dropout", seat.course.progress.step, part or 0)
            )
        formation.fleet.seed_dropout(seeds)
        plan = self._seats[0].plan
        with (
            formation.fleet.dropout_context()
        ):  # and where the backward pass computes activations again
            with autocast(plan.device, plan.precision):
                summed = formation.losses(shares, [s.plan for s in self._seats])
            own = {
                r: loss / weight(self._seats[r].course.data, batches[r])
                for r, loss in summed.items()
            }
            torch.autograd.backward(torch.stack([*own.values()]).sum())
        for r, loss in own.items():
            losses[r] += float(loss.detach())

    def _descend(self, seat: Slot, loss: float) -> None:
        course = seat.course
        with course.catch_divergence():
            step = course.progress.step
            apply_gradients(course.trained, course.optimizer, step, course.rate, loss, seat.plan)
            try:
                course.took(loss)
            except StaleClaimError:  # another worker has this run; the others go on
                seat.lost = True
        for parameter in course.trained.values():
            parameter.grad = None

    def _evaluate(self) -> None:
        """Judge the runs whose turn it is, all in the same passes."""
        due = [s for s in self._seats if s.course.due and not s.lost]
        if due:
            started = time.monotonic()
            self._ready(due, "selection")
            for seat in due:
                with seat.course.catch_divergence():
                    seat.course.judge()
            for seat in due:
                seat.spent("train", (time.monotonic() - started) / len(due))
        for seat in self._seats:
            if not seat.lost:
                seat.course.keep()

    def _ready(self, seats: Sequence[Slot], part: str) -> None:
        """Compute what these runs are going to ask for."""
        asked = [(seat, seat.encoded[part]) for seat in seats if part in seat.encoded]
        if asked:
            for (seat, data), found in zip(asked, self._found(asked), strict=True):
                seat.ready[id(data)] = found

    def _found(self, asked: Sequence[tuple[Slot, Encoded]]) -> list[Any]:
        """What some runs make of their data, in evaluation mode.

        Returns:
            The logits of each, (examples, labels); of translations the loss of a token, in nats.
        """
        place = {id(seat): r for r, seat in enumerate(self._seats)}
        data = {place[id(seat)]: encoded for seat, encoded in asked}
        return evaluate_runs(self._formation, data, self._seats[0].plan)

    def _translate(self, seat: Slot, data: Encoded, generation: Generation) -> list[str]:
        """Of a run that has ended: a search makes its own batches, so it is alone in the model."""
        formation = self._formation
        formation.form([seat.member])
        return generate(
            formation.loaded,
            data,
            generation,
            fleet=formation.fleet,
            pad_id=seat.plan.pad_id,
            device=seat.plan.device,
            precision=seat.plan.precision,
        )

    def _work(self, seat: Slot) -> ComputeCost:
        """What was known of the run before it began."""
        data, trained = seat.encoded["train"], seat.outcome.result["trained_parameters"]
        choices = len(data.ids[0])
        return estimate_cost(
            seat.job.run, self._shape, trained, data.lengths, choices, self._device
        )

    def _finish_runs(self, ended: Sequence[Slot]) -> None:
        """Write what these runs leave, and let them go."""
        staying = [seat for seat in ended if not seat.lost]
        started = time.monotonic()
        concluded = {id(seat): seat.course.conclude() for seat in staying}
        with_answers = [
            s for s in staying if concluded[id(s)].diverged is None or concluded[id(s)].best
        ]
        self._ready(with_answers, "test")
        if any(seat.encoded["train"].targets is not None for seat in staying):
            # Before the first of them is alone in the model, which translates.
            self._ready(with_answers, "selection")
        used = describe_environment(
            self._device, compiled=self._formation.prepared.fleet.used_kernels
        )
        given = {id(s): predict_parts(concluded[id(s)], s.judge, s.encoded) for s in staying}
        for seat in staying:
            run = seat.job.run
            seat.spent("evaluation", (time.monotonic() - started) / len(staying))
            write_outcome(
                seat.outcome,
                run,
                concluded[id(seat)],
                given[id(seat)],
                tensors=seat.course.trained,
                method=seat.member.method,
                head=self._formation.loaded.head_parameters,
                plan=seat.plan,
                encoded=seat.encoded,
                parts=seat.parts,
                dataset=self._bench.dataset(run.task),
                notes=self._bench.source(run.model).notes,
                keep_bytes=self._keep_bytes,
            )
            seat.outcome.measured |= {
                "wall_seconds": seat.seconds,
                "environment": used,
                "fleet": len(self._seats),
                "work": asdict(self._work(seat)),
            }
            self._finish(seat.job, seat.outcome)
            seat.lost = True  # it has its end, and nothing more is to be kept of it
        self._seats = [seat for seat in self._seats if seat not in ended]
        self._changed = True
