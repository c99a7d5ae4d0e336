"""Records of a study, gathered into cells: all runs of one task x model x method together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from paretune.analysis.constant_answers import is_collapsed
from paretune.analysis.lr_selection import RateSelection, select_learning_rate
from paretune.analysis.primary_metric import find_primary_metric
from paretune.analysis.statistics.bootstrap_score import BootstrapScore, bootstrap_score
from paretune.analysis.statistics.score_interval import Interval, confidence_interval
from paretune.methods import baselines
from paretune.objectives import Objective
from paretune.store.record import Predictions, Record
from paretune.store.status import RunStatus
from paretune.study import MethodSpec, Run, Study, TaskSpec
from paretune.tasks import objective_of

NO_MODEL = "-"
"""The model key of baselines without a model; they belong to every model of their task."""


def model_free_baselines(task: TaskSpec) -> tuple[str, ...]:
    """The names of a task's baselines without a model."""
    objective = objective_of(task)
    return objective.baselines + (objective.tabular_baselines if task.features else ())


def methods_with_probe(study: Study, task: TaskSpec) -> list[MethodSpec]:
    """The study's methods that use a model, and the probe that is always run on each model."""
    probe = objective_of(task).probe
    specs = [m for m in study.methods if m.name == probe or m.name not in baselines.NAMES]
    if not any(m.name == probe for m in specs):
        specs.append(MethodSpec(name=probe))
    return specs


@dataclass(frozen=True)
class Cell:
    """All runs of one task x model x method, and their scores.

    Attributes:
        task: key of the task.
        model: key of the model; :data:`NO_MODEL` without one.
        method: key of the method.
        name: of the method itself.
        metric: name of the primary metric.
        objective: of the task.
        final: records of final runs, of one setting.
        tuning: records of trials, of one setting.
        cost: records of solo measurements.
        choice: the selected learning rate.
        pending: number of runs that have not ended, by stage and state: ``("final", "todo"): 3``.
        expected_runs: number of final runs that the protocol asks for.
        other_settings: records left out because an older version of the study made them.
    """

    task: str
    model: str
    method: str
    name: str
    metric: str
    objective: Objective
    final: tuple[Record, ...] = ()
    tuning: tuple[Record, ...] = ()
    cost: tuple[Record, ...] = ()
    choice: RateSelection = field(default_factory=lambda: select_learning_rate(()))
    pending: Mapping[tuple[str, str], int] = field(default_factory=dict)
    expected_runs: int = 1
    other_settings: int = 0

    @property
    def baseline(self) -> bool:
        """Whether this is a baseline rather than a method under comparison."""
        return self.name in baselines.NAMES

    @property
    def rate(self) -> float | None:
        """The learning rate of the final runs; None for methods that have none."""
        return self.final[0].run.learning_rate if self.final else self.choice.rate

    @property
    def undecided(self) -> bool:
        """The chosen rate was not clearly better than its runner-up."""
        return self.choice.undecided and self.rate == self.choice.rate

    @property
    def edge(self) -> bool:
        """The chosen rate is the lowest or highest of several that were tried."""
        return self.choice.edge and self.rate == self.choice.rate

    @property
    def selected_on_test(self) -> bool:
        """The paper's way: checkpoints were chosen on the part that is reported."""
        return any(record.run.selection == "test" for record in self.final)

    @cached_property
    def outcomes(self) -> Mapping[str, int]:
        """How the final runs ended: ok, collapsed, diverged, out_of_memory or error.

        Collapse is judged by the answers themselves, so it is flagged whoever wrote the record.
        """
        return Counter(_outcome_of(record) for record in self.final)

    @property
    def deterministic(self) -> bool:
        """Nothing is drawn, so there are no seeds to differ: the interval speaks of examples."""
        return self.model == NO_MODEL or self.name in baselines.DRAWS_NOTHING

    @property
    def answers(self) -> tuple[Predictions, ...]:
        """What the final runs answered on the test part, one for each that did."""
        return tuple(
            record.predictions["test"] for record in self.final if _has_test_answers(record)
        )

    @cached_property
    def bootstrap(self) -> BootstrapScore | None:
        """Scores on the test part; None while no final run has left answers."""
        return bootstrap_score(self.answers, self.metric) if self.answers else None

    @cached_property
    def interval(self) -> Interval | None:
        """The cell's score over its seeds and examples."""
        return confidence_interval(self.bootstrap) if self.bootstrap else None

    @property
    def unscored_runs(self) -> int:
        """Final runs that ended without answers on the test part."""
        return len(self.final) - (len(self.bootstrap.seeds) if self.bootstrap else 0)

    @property
    def all_trials_failed(self) -> bool:
        """Every rate on trial diverged or did not fit, so no final run will come."""
        return bool(self.choice.table) and self.choice.rate is None and not self.final

    @property
    def finished(self) -> bool:
        """Nothing waits, and all final runs that were asked for have ended."""
        if any(stage != "cost" for stage, _ in self.pending):
            return False
        return self.all_trials_failed or len(self.final) >= self.expected_runs


def group_into_cells(
    study: Study, records: Iterable[Record], states: Iterable[RunStatus] = ()
) -> list[Cell]:
    """Every cell of the study, in its order, whether or not anything has run.

    Baselines come after the methods of their task. Runs of tasks, models or methods that are not in
    the study are left out: a changed study file never mixes results.
    """
    keys = _cell_keys(study)
    by_cell: dict[tuple[str, str, str], list[Record]] = {}
    by_task: dict[str, list[Record]] = {}
    for record in records:
        by_cell.setdefault(record.run.cell, []).append(record)
        by_task.setdefault(record.run.task.key, []).append(record)
    pending: dict[tuple[str, str, str], Counter[tuple[str, str]]] = {}
    for state in states:
        if not state.ended:
            pending.setdefault(state.run.cell, Counter())[(state.stage, state.state)] += 1
    objectives = {task.key: objective_of(task) for task in study.tasks}
    metrics = {task: objective.default_metric for task, objective in objectives.items()}
    for task, task_records in by_task.items():
        if (metric := find_primary_metric(task_records)) is not None:
            metrics[task] = metric
    return [
        _build_cell(
            study,
            (*key, name),
            metrics[key[0]],
            objectives[key[0]],
            by_cell.get(key, ()),
            pending.get(key, {}),
        )
        for key, name in keys.items()
    ]


def _cell_keys(study: Study) -> dict[tuple[str, str, str], str]:
    """Cell keys in the study's order, each with the method's own name."""
    keys: dict[tuple[str, str, str], str] = {}
    for task in study.tasks:
        methods = methods_with_probe(study, task)
        probes = [m for m in methods if m.name in baselines.WITH_MODEL]
        for model in study.models:
            # The probe last, among the baselines, wherever the study names it.
            for method in (*(m for m in methods if m not in probes), *probes):
                keys[(task.key, model.key, method.key)] = method.name
        for name in model_free_baselines(task):
            keys[(task.key, NO_MODEL, name)] = name
    return keys


def _build_cell(
    study: Study,
    key: tuple[str, str, str, str],
    metric: str,
    objective: Objective,
    records: Sequence[Record],
    pending: Mapping[tuple[str, str], int],
) -> Cell:
    tuning = _keep_one_setting([r for r in records if r.run.stage == "tune"], study, None)
    choice = select_learning_rate(tuning)
    every_final = [r for r in records if r.run.stage == "final"]
    final = _keep_same_examples(_keep_one_setting(every_final, study, choice.rate))
    cost = _keep_one_setting([r for r in records if r.run.stage == "cost"], study, None)
    # A baseline without a model does not depend on the seed, and the paper had one seed.
    one_run = (
        key[1] == NO_MODEL or key[3] in baselines.DRAWS_NOTHING or study.protocol.preset == "paper"
    )
    return Cell(
        *key,
        metric=metric,
        objective=objective,
        final=tuple(sorted(final, key=lambda r: r.run.seed)),
        tuning=tuple(tuning),
        cost=tuple(cost),
        choice=choice,
        pending=dict(pending),
        expected_runs=1 if one_run else len(study.protocol.seeds),
        other_settings=len(every_final) - len(final),
    )


def _keep_one_setting(records: Sequence[Record], study: Study, rate: float | None) -> list[Record]:
    """The records of one setting: the study's own, at the selected rate, or the most frequent."""
    settings: dict[str, list[Record]] = {}
    for record in records:
        settings.setdefault(_setting_key(record), []).append(record)
    if len(settings) < 2:
        return list(records)
    return max(settings.values(), key=lambda group: _closeness(group, study, rate))


def _setting_key(record: Record) -> str:
    """What must be equal for two runs to be seeds (or trials) of one another."""
    run = record.run
    ignored = {"seed": 0, "fold": 0}
    if run.stage != "final":
        ignored["learning_rate"] = 0
    return repr(sorted({**run.canonical_form(), **ignored}.items()))


def _keep_same_examples(records: Sequence[Record]) -> list[Record]:
    """Without runs on other data: only answers to the same examples are averaged."""
    answers = {r.run_id: r.predictions["test"].uid for r in records if _has_test_answers(r)}
    if not answers:
        return list(records)
    most_common, _ = Counter(answers.values()).most_common(1)[0]
    return [r for r in records if answers.get(r.run_id, most_common) == most_common]


def _closeness(records: Sequence[Record], study: Study, rate: float | None) -> tuple[Any, ...]:
    run: Run = records[0].run
    training = run.training.model_copy(update={"precision": study.training.precision})
    return (
        any(run.method.options == m.options for m in study.methods if m.key == run.method.key),
        training == study.training,
        run.split_seed == study.protocol.split_seed,
        rate is None or run.learning_rate == rate,
        len(records),
    )


def _has_test_answers(record: Record) -> bool:
    answers: Predictions | None = record.predictions.get("test")
    return answers is not None and bool(answers.uid)


def _outcome_of(record: Record) -> str:
    if (
        record.outcome == "ok"
        and _has_test_answers(record)
        and is_collapsed(record.predictions["test"])
    ):
        return "collapsed"
    return record.outcome
