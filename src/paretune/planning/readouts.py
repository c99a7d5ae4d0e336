"""How each method of a study has a model answer: by the study file, or by the model's topology."""

from __future__ import annotations

from collections.abc import Sequence

from paretune import methods
from paretune.analysis.cells import methods_with_probe
from paretune.data.example import Dataset
from paretune.errors import MethodError
from paretune.methods import Method
from paretune.methods.baselines import WITH_MODEL, WITHOUT_TRAINING
from paretune.models.structure.topology import Topology
from paretune.objectives import Objective
from paretune.objectives.readouts import by_language_model, for_readout
from paretune.planning.context import StudyContext
from paretune.study import MethodSpec, ModelSpec, Readout, Study, TaskSpec


def resolve_readout(
    task: TaskSpec, model: ModelSpec, method: MethodSpec, context: StudyContext
) -> Readout:
    """The readout of the runs of one cell.

    What the method names, or else the task, as far as the method can; otherwise the first that
    task, model and method can have.

    Raises:
        MethodError: the method cannot serve the task, or not by the readout that the study names.
    """
    dataset, value = context.dataset(task), methods.get(method.name)
    topology = context.topology(model)
    possible = possible_readouts(dataset.objective, topology)
    for named, where in (
        (method.readout, f"method {method.key} on model {model.key}"),
        (task.readout, f"task {task.key} on model {model.key}"),
    ):
        if named is not None and named not in possible:
            raise MethodError(
                f"{topology.name} does not answer a {_name(dataset.objective)} task by {named}.",
                where=where,
                remedy=f"It answers by {' or '.join(possible)}; or remove readout.",
            )
    configured = context.method(method)
    shots = configured.shots if isinstance(configured, methods.ConfiguredMethod) else 0
    if shots and any(example.messages for example in dataset.train):
        raise _refuse("solved examples cannot stand before a conversation", task, method)
    refusals = {one: _refusal(value, dataset, one) for one in possible}
    allowed = [one for one in possible if not refusals[one]]
    if method.readout is not None and method.readout not in allowed:
        raise _refuse(refusals[method.readout], task, method)
    if not allowed:
        raise _refuse(next(iter(refusals.values())), task, method)
    if method.readout is not None:
        return method.readout
    return task.readout if task.readout in allowed else allowed[0]


def possible_readouts(objective: Objective, topology: Topology) -> tuple[Readout, ...]:
    """How models of this topology can answer tasks of this kind, the usual way first.

    ``head`` where they cannot at all: opening the model says why.
    """
    headless = by_language_model(objective) if "causal_lm" in topology.heads else ()
    # An LM head that came with the checkpoint is what those read.
    other = objective.head in topology.heads and (objective.draws_head or not headless)
    head: tuple[Readout, ...] = ("head",) if other else ()
    return (*headless, *head) or ("head",)


def check_method(
    method: MethodSpec, task: TaskSpec, models: Sequence[ModelSpec], context: StudyContext
) -> None:
    """Check that a method can serve a task on every model.

    A baseline with a model needs one that can have it: a study may have others beside it.

    Raises:
        MethodError: it cannot.
    """
    if isinstance(methods.get(method.name), methods.Baseline) or not models:
        context.check_method_serves(method, task)
        return
    errors = [e for model in models if (e := _error(task, model, method, context))]
    some_can = len(errors) < len(models) and method.name in WITH_MODEL
    if errors and not some_can:
        raise errors[0]


def methods_on_model(
    study: Study, task: TaskSpec, model: ModelSpec, context: StudyContext
) -> list[tuple[MethodSpec, Readout]]:
    """The study's methods on a model, and the baselines that always stand beside them there.

    These are the probe of the task's kind, where the model can have it; and where the model can
    answer without training, its answers with and without solved examples.
    """
    specs = methods_with_probe(study, task)
    names = {spec.name for spec in specs}
    possible = possible_readouts(context.dataset(task).objective, context.topology(model))
    if possible[0] != "head":
        specs += [MethodSpec(name=name) for name in WITHOUT_TRAINING if name not in names]
    return [
        (spec, resolve_readout(task, model, spec, context))
        for spec in specs
        if (spec.name not in WITH_MODEL or not _error(task, model, spec, context))
        and not _training_error(spec, model, context)
    ]


def find_refused_cells(study: Study, context: StudyContext) -> list[MethodError]:
    """Why methods of the study cannot train on models of it; the study runs without those cells.

    Raises:
        MethodError: no method can train on any model.
    """
    pairs = [(method, model) for model in study.models for method in study.all_methods]
    errors = [e for pair in pairs if (e := _training_error(*pair, context))]
    if pairs and len(errors) == len(pairs):
        raise errors[0]
    return errors


def _training_error(
    method: MethodSpec, model: ModelSpec, context: StudyContext
) -> MethodError | None:
    try:
        context.check_method_trains(method, model)
    except MethodError as error:
        return error
    return None


def _error(
    task: TaskSpec, model: ModelSpec, method: MethodSpec, context: StudyContext
) -> MethodError | None:
    try:
        resolve_readout(task, model, method, context)
    except MethodError as error:
        return error
    return None


def _refusal(method: Method | methods.Baseline, dataset: Dataset, readout: Readout) -> str:
    objective = for_readout(dataset.objective, readout, dataset.prompt)
    return methods.refusal(method, objective, tabular=bool(dataset.features), readout=readout)


def _refuse(reason: str, task: TaskSpec, method: MethodSpec) -> MethodError:
    return MethodError(
        f"{reason}.",
        where=f"method {method.key} on task {task.key}",
        remedy="Remove the method or the task from the study.",
    )


def _name(objective: Objective) -> str:
    return objective.name.replace("_", " ")
