"""From a study and what its runs have left so far to all runs that should exist.

A pure question asked again and again: runs on trial come first; when all trials of a cell have
ended, its rate is chosen and the final seeds appear; the solo measurement of its cost stands last.
Asking twice gives the same runs, so the same command always continues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from paretune import methods
from paretune.analysis.cells import with_probe, without_model
from paretune.analysis.choice import choose_rate
from paretune.errors import StudyError
from paretune.planning import paper
from paretune.planning.context import NO_MODEL, Context, learning_rates
from paretune.store.record import Record
from paretune.study import MethodSpec, ModelSpec, Run, Stage, Study, TaskSpec, Training

FOLDS_BELOW = 500
"""Under this many training rows, rates are chosen by the mean over folds."""


@dataclass(frozen=True)
class Planned:
    """A run with its identity."""

    run_id: str
    run: Run


def expand(study: Study, context: Context, records: Sequence[Record]) -> list[Planned]:
    """All runs that the study asks for, given the records that exist; in the order to run them.

    Raises:
        StudyError: two cells of the study would be the same runs under two names.
        ParetuneError: data, a model or a method that cannot be used.
    """
    return _told_apart(_every(study, context, {record.run_id: record for record in records}))


def askable(study: Study, context: Context) -> frozenset[str]:
    """Identities of all runs that the study may come to ask for with the data and models of now.

    They do not hang on what has ended: final runs count at every rate that may be chosen, and all
    runs in every precision that ``auto`` may mean.
    """
    return frozenset(
        planned.run_id
        for meant in (lambda _: "fp32", lambda _: "bf16")
        for planned in _every(study, replace(context, auto_precision=meant), None)
    )


def _every(study: Study, context: Context, ended: dict[str, Record] | None) -> list[Planned]:
    """The runs to come after those that have ended; with None, all that may ever come."""
    study = context.pinned(study)
    for task in study.tasks:
        for method in study.methods:
            context.serves(method, task)
    if study.protocol.preset == "paper":
        return [Planned(context.identify(run), run) for run in paper.expand(study)]
    planned: list[Planned] = []
    for task in study.tasks:
        for name in without_model(task):
            run = Run(
                stage="final",
                task=task,
                model=NO_MODEL,
                method=MethodSpec(name=name),
                learning_rate=None,
                seed=study.protocol.seeds[0],
                split_seed=study.protocol.split_seed,
                training=_concrete(study.training, NO_MODEL, context),
                generation=study.generation if task.translates else None,
            )
            planned.append(Planned(context.identify(run), run))
        for model in study.models:
            for method in with_probe(study, task):
                planned += _cell(study, context, ended, task, model, method)
    order = {"tune": 1, "final": 2, "cost": 3}
    # Baselines without a model take a second: they come first.
    planned.sort(key=lambda p: 0 if p.run.model == NO_MODEL else order[p.run.stage])
    return planned


def _told_apart(planned: list[Planned]) -> list[Planned]:
    """The same runs; an error where two cells differ in nothing but their names."""
    first: dict[str, Run] = {}
    for one in planned:
        other = first.setdefault(one.run_id, one.run)
        if other.cell != one.run.cell:
            raise StudyError(
                f"{' x '.join(other.cell)} and {' x '.join(one.run.cell)} are the same run.",
                remedy="They differ in nothing but their names: remove one, or change it.",
            )
    return planned


def folds(study: Study, training_rows: int) -> int:
    """How many parts of train take a turn as selection part."""
    return study.protocol.folds if training_rows < FOLDS_BELOW else 1


def _cell(
    study: Study,
    context: Context,
    ended: dict[str, Record] | None,
    task: TaskSpec,
    model: ModelSpec,
    method: MethodSpec,
) -> list[Planned]:
    module, _ = context.method(method)
    if not methods.trains_a_model(module):
        return []
    protocol = study.protocol
    training = _concrete(study.training, model, context)

    def planned(stage: Stage, rate: float | None, seed: int, fold: int = 0) -> Planned:
        run = Run(
            stage=stage,
            task=task,
            model=model,
            method=method,
            learning_rate=rate,
            seed=seed,
            fold=fold,
            split_seed=protocol.split_seed,
            training=training,
            generation=study.generation if task.translates else None,
        )
        return Planned(context.identify(run), run)

    if not methods.has_rates(module):
        # Nothing is drawn and nothing tried: one run says all.
        return [planned(stage, None, protocol.seeds[0]) for stage in ("final", "cost")]
    rates = learning_rates(method, module, protocol.trials)
    cost = planned("cost", rates[len(rates) // 2], protocol.seeds[0])
    if len(rates) == 1:
        return [*(planned("final", rates[0], seed) for seed in protocol.seeds), cost]
    turns = range(folds(study, len(context.dataset(task).train)))
    trials = [planned("tune", rate, protocol.tuning_seed, f) for rate in rates for f in turns]
    if ended is None:
        finals = [planned("final", rate, seed) for rate in rates for seed in protocol.seeds]
        return [*trials, *finals, cost]
    results = [ended[t.run_id] for t in trials if t.run_id in ended]
    if len(results) < len(trials):
        return [*trials, cost]
    choice = choose_rate(results)
    if choice.rate is None:
        return [*trials, cost]  # every trial diverged or did not fit: the cell ends here
    return [*trials, *(planned("final", choice.rate, seed) for seed in protocol.seeds), cost]


def _concrete(training: Training, model: ModelSpec, context: Context) -> Training:
    return training.model_copy(update={"precision": context.precision(training, model)})
