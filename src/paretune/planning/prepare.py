"""Prepares a study on this machine: it is read once and passed on as one value.

Data come first, then models, then methods, then the cells that can run. The runs of these depend on
ended runs: :mod:`paretune.planning.expand` lists them, from this value and the records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from paretune import methods, tasks
from paretune.analysis.cells import methods_with_probe
from paretune.answers import Readout
from paretune.data.audit import audit
from paretune.data.example import Dataset
from paretune.data.finding import Finding
from paretune.data.split import OuterDesign, choose_outer_design
from paretune.errors import DataError, MethodError, StudyError
from paretune.measuring.devices import Precision, is_bf16_fast, resolve_auto_precision
from paretune.methods.baselines import WITH_MODEL, WITHOUT_TRAINING
from paretune.models.quantised import require_backend
from paretune.models.sources.resolve import ModelSource
from paretune.models.structure.heads import load_config
from paretune.models.structure.topology import DECODER, ENCODER_DECODER, Topology, topology_of
from paretune.objectives import LOSS_SETTINGS, SETTINGS_OF_SOME, Objective
from paretune.objectives.readouts import for_readout
from paretune.planning.predicted_cost import CostPredictor
from paretune.planning.shard import Shard
from paretune.preparation import ProcessCache
from paretune.store import Store
from paretune.study import (
    NO_MODEL,
    UNNAMED_MODEL,
    Generation,
    MethodSpec,
    ModelSpec,
    OuterFold,
    Run,
    Stage,
    Study,
    TaskSpec,
    Training,
)
from paretune.study.presets import BUILT_IN, Preset, load_preset
from paretune.study.run import ForgettingText
from paretune.study.study_file import KeyPath
from paretune.tasks.forgetting_text import hash_text, read_blocks, read_pairs


@dataclass(frozen=True)
class PreparedCell:
    """A method on a model on a task, and how the model answers."""

    task: TaskSpec
    model: ModelSpec
    method: MethodSpec
    readout: Readout = "head"

    @property
    def key(self) -> tuple[str, str, str]:
        """The keys of task, model and method."""
        return self.task.key, self.model.key, self.method.key


@dataclass(frozen=True)
class PlannedRun:
    """A run with its identity.

    ``proposed_by`` of a proposed trial is the model and method of the cell that it is for; a trial
    for several cells is planned by each of them.
    """

    run_id: str
    run: Run
    proposed_by: tuple[str, str] | None = None

    @property
    def cell(self) -> tuple[str, str, str]:
        """The task, model and method that the run is for."""
        return self.run.cell if self.proposed_by is None else (self.run.cell[0], *self.proposed_by)


@dataclass(frozen=True)
class PreparedStudy:
    """A study as planning reads it, together with its records.

    Attributes:
        study: study as it was given.
        preset: preset that fixes the settings of all its runs; None for a built-in one.
        tasks: tasks of the study, each dataset of the hub pinned to its present commit.
        models: models of the study, pinned too, so that workers ignore a branch that moves.
        datasets: dataset by the task's key.
        designs: how the test rows of each task are answered, by the task's key.
        sources: files of the models, by the model's key.
        topologies: layout of the models' layers, by the model's key.
        precisions: precision of the runs of each model; :data:`NO_MODEL`'s key has that of runs
            without one.
        forgetting: text on which a model's forgetting is measured, by the keys of task and model,
            where it can be measured.
        cells: cells that can run, with the baselines that always stand beside the methods.
        refused: findings on methods that cannot train on models: the study runs without those
            cells.
        findings: findings of the audit of the data, where it was made.
        caches: data and models of this process.
        predictor: predicts the work of runs.
        store: store whose runs are planned; None where nothing is stored.
        shard: shard whose runs alone are planned; None for the whole study.
        memory: results that methods which propose runs need not compute again.
    """

    study: Study
    preset: Preset | None
    tasks: tuple[TaskSpec, ...]
    models: tuple[ModelSpec, ...]
    datasets: Mapping[str, Dataset]
    designs: Mapping[str, OuterDesign]
    sources: Mapping[str, ModelSource]
    topologies: Mapping[str, Topology]
    precisions: Mapping[str, Precision]
    forgetting: Mapping[tuple[str, str], ForgettingText]
    cells: tuple[PreparedCell, ...]
    refused: tuple[Finding, ...]
    findings: tuple[Finding, ...]
    caches: ProcessCache
    predictor: CostPredictor
    shard: Shard | None = None
    store: Store | None = None
    memory: dict[str, Any] = field(default_factory=dict)

    def in_store(self, store: Store | None, device: str) -> PreparedStudy:
        """Return the study in a store that is open for writing or reading; None: in no store.

        The device decides what ``precision: auto`` means for a model, once for each store: a store
        that is continued on another machine computes as it did before.
        """
        if self.study.training.precision != "auto":
            return replace(self, store=store)
        precisions: dict[str, Precision] = {}
        for key in self.precisions:
            width = self.sources[key].width if key in self.sources else None
            setting = f"precision/{device.split(':')[0]}/{width}"
            stored = None if store is None else store.get_setting(setting)
            if stored is None:
                stored = resolve_auto_precision(device, width)
                if store is not None and store.is_writable:
                    stored = store.set_default_setting(setting, stored)
            precisions[key] = "bf16" if stored == "bf16" else "fp32"
        return replace(self, store=store, precisions=precisions)

    def make_run(
        self,
        cell: PreparedCell,
        stage: Stage,
        rate: float | None,
        seed: int,
        *,
        fold: int = 0,
        outer: OuterFold | None = None,
        method: MethodSpec | None = None,
        begun_at: float | None = None,
    ) -> Run:
        """Make a run of a cell; ``method`` replaces the method of the cell."""
        objective = _objective_of(cell, self.datasets)
        forgetting, training = None, self.study.training
        if cell.method.is_command:
            training = Training(precision="fp32")  # such runs do not read it
        else:
            training = training.model_copy(update={"precision": self.precisions[cell.model.key]})
            if stage == "final" and rate is not None:
                forgetting = self.forgetting.get((cell.task.key, cell.model.key))
        return Run(
            stage=stage,
            task=cell.task,
            model=cell.model,
            method=cell.method if method is None else method,
            learning_rate=rate,
            begun_at=begun_at,
            readout=cell.readout,
            seed=seed,
            fold=fold,
            split_seed=self.study.protocol.split_seed,
            outer=outer,
            training=training,
            generation=self.study.generation if objective.generates else None,
            forgetting=forgetting,
        )

    def plan_run(
        self,
        cell: PreparedCell,
        stage: Stage,
        rate: float | None,
        seed: int,
        **options: Any,
    ) -> PlannedRun:
        """Plan a run of a cell (:meth:`make_run`) with its identity."""
        run = self.make_run(cell, stage, rate, seed, **options)
        return PlannedRun(self.caches.identify(run), run)

    def describe_precisions(self, device: str) -> str:
        """Return the precision of the study's runs; where its models differ, that of each.

        The text says where a device is slow in bf16 that the study names, or that its store has
        from another machine.
        """
        by_model = {model.key: self.precisions[model.key] for model in self.models}
        text = ", ".join(f"{precision} ({name})" for name, precision in by_model.items())
        if len(set(by_model.values())) == 1:
            text = next(iter(by_model.values()))
        fast, reason = is_bf16_fast(device)
        if "bf16" not in by_model.values() or fast:
            return text
        return f"{text} (warning: {device} is slow in bf16, since {reason}; fp32 is faster here)"


def prepare_study(
    study: Study,
    caches: ProcessCache | None = None,
    *,
    offline: bool = True,
    shard: Shard | None = None,
    audited: bool = False,
) -> PreparedStudy:
    """Read a study's data, the files of its models and its methods.

    Args:
        caches: data that this process has read already; the function adds to them.
        offline: fetch nothing from the hub.
        shard: plan the runs of this shard alone.
        audited: audit the data, before any model is fetched.

    Returns:
        The study in no store, where ``precision: auto`` is fp32.

    Raises:
        MethodError: options of a method are wrong, it cannot serve a task, or no method can train
            on any model.
        DataError: data cannot be used; after an audit the error names every fault.
        ModelError: a model cannot be used.
        StudyError: some runs would not read a setting, or classes are weighted that a task does not
            have.
    """
    for method in study.methods:
        methods.check_options(method, study)
    caches = ProcessCache() if caches is None else caches
    datasets, designs, sources, topologies = {}, {}, {}, {}
    pinned_tasks, pinned_models, findings = [], [], []
    for task in study.tasks:
        pinned_tasks.append(tasks.pin_dataset(task, offline=offline))
        dataset = datasets[task.key] = caches.dataset(pinned_tasks[-1])
        designs[task.key] = choose_outer_design(study.protocol, task, dataset)
        if audited:
            findings += audit(dataset, study.checks, designs[task.key])
    if errors := [str(finding) for finding in findings if finding.severity == "error"]:
        raise DataError("\n".join(errors), remedy="Fix them and rerun.")
    for model in study.models:
        if model == UNNAMED_MODEL:
            continue
        source = sources[model.key] = caches.source(model, offline=offline)
        topologies[model.key] = topology_of(load_config(source))
        require_backend(model.quantisation, f"model {model.key}")
        if source.revision is not None and not model.name.startswith("package:"):
            # Pin the present commit of its repository on the hub.
            model = model.model_copy(update={"revision": source.revision})
            caches.sources[model.model_dump_json()] = source
        pinned_models.append(model)
    for task in study.tasks:
        for method in study.all_methods:
            check_method(method, task, datasets[task.key], topologies)
    refused = find_refused_cells(study)
    cells: list[PreparedCell] = []
    forgetting = {}
    for task in pinned_tasks:
        if UNNAMED_MODEL in study.models:
            cells += [PreparedCell(task, UNNAMED_MODEL, command) for command in study.commands]
        for model in pinned_models:
            topology = topologies[model.key]
            cells += _list_cells(study, task, datasets[task.key], model, topology)
            text = choose_forgetting_text(study, task, topology)
            if text is not None:
                forgetting[task.key, model.key] = text
    check_settings(study, cells, datasets)
    precision = study.training.precision
    assumed: Precision = "fp32" if precision == "auto" else precision
    return PreparedStudy(
        study=study,
        preset=load_preset(study.protocol.preset),
        tasks=tuple(pinned_tasks),
        models=tuple(pinned_models),
        datasets=datasets,
        designs=designs,
        sources=sources,
        topologies=topologies,
        precisions=dict.fromkeys([*sources, NO_MODEL.key, UNNAMED_MODEL.key], assumed),
        forgetting=forgetting,
        cells=tuple(cells),
        refused=refused,
        findings=tuple(findings),
        caches=caches,
        predictor=CostPredictor(caches),
        shard=shard,
    )


def check_settings(
    study: Study, cells: Sequence[PreparedCell], datasets: Mapping[str, Dataset]
) -> None:
    """Check that some run can read each setting of ``training`` and of ``generation``.

    Raises:
        StudyError: no loss reads a setting of ``training`` (the error says whose loss does);
            ``generation`` has a setting where no text is generated; or a task lacks a weighted
            class.
    """
    errors: list[StudyError] = []

    def refuse(place: KeyPath, what: str, remedy: str) -> None:
        where = study.locate(place, ".".join(map(str, place)))
        errors.append(StudyError(what, where=where, remedy=f"Remove it{remedy}."))

    fields, training = Training.model_fields, study.training
    changed = [name for name in LOSS_SETTINGS if getattr(training, name) != fields[name].default]
    for name, task in product(changed, study.tasks):
        unread: dict[str, list[str]] = {}  # unread settings, by the methods whose loss reads them
        is_read = False
        for cell in cells:
            configured, objective = methods.configure(cell.method), _objective_of(cell, datasets)
            if isinstance(configured, methods.ConfiguredBaseline) or not configured.learns:
                continue
            if cell.task.key != task.key:
                continue
            if name in configured.loss_settings(objective):
                is_read = True
                continue
            loss = objective.name.replace("_", " ")
            loss += "" if cell.readout == "head" else f" by {cell.readout}"
            if configured.method.body_training is not None:
                loss = configured.method.title
            unread.setdefault(loss, []).append(cell.method.key)
        if not unread or (is_read and name in SETTINGS_OF_SOME):
            continue
        of_losses = " and of ".join(unread)
        names = ", ".join(key for keys in unread.values() for key in keys)
        remedy = f", or method {names}" if is_read else f", or task {task.key}"
        refuse(("training", name), f"the loss of {of_losses} has no {name}.", remedy)
    generates = [_objective_of(cell, datasets).generates for cell in cells]
    if study.generation != Generation() and generates and not any(generates):
        refuse(("generation",), "no task of the study is answered by a generated text.", "")
    if len(errors) > 1:
        raise StudyError("\n".join(map(str, errors)))
    for only in errors:
        raise only
    for cell in {(cell.task.key, cell.readout): cell for cell in cells}.values():
        dataset = datasets[cell.task.key]
        objective = _objective_of(cell, datasets)
        # It refuses weights of classes that the task lacks.
        objective.loss_options(dataset.train, dataset.labels, None, training.class_weights)


def _objective_of(cell: PreparedCell, datasets: Mapping[str, Dataset]) -> Objective:
    dataset = datasets[cell.task.key]
    return for_readout(dataset.objective, cell.readout, dataset.prompt)


def check_method(
    method: MethodSpec, task: TaskSpec, dataset: Dataset, topologies: Mapping[str, Topology]
) -> None:
    """Check that a method can serve a task on every model; without models, that it can at all.

    A baseline with a model needs one model that can have it: a study may have further models.

    Raises:
        MethodError: the method cannot; the error says why.
    """
    configured = methods.configure(method)
    if isinstance(configured, methods.ConfiguredBaseline) or not topologies:
        if reason := _refusal(configured.method, dataset, "head"):
            raise _refuse(reason, task, method)
        return
    errors = []
    for model, topology in topologies.items():
        try:
            choose_readout(task, dataset, model, topology, method)
        except MethodError as error:
            errors.append(error)
    some_can = len(errors) < len(topologies) and method.name in WITH_MODEL
    if errors and not some_can:
        raise errors[0]


def choose_readout(
    task: TaskSpec, dataset: Dataset, model: str, topology: Topology, method: MethodSpec
) -> Readout:
    """Choose the readout of the runs of one cell.

    The method names it, or else the task, as far as the method can; otherwise it is the first that
    task, model and method can have.

    Args:
        model: key of the model.

    Raises:
        MethodError: the method cannot serve the task, or not by the readout that the study names.
    """
    possible = possible_readouts(dataset.objective, topology)
    for named, where in (
        (method.readout, f"method {method.key} on model {model}"),
        (task.readout, f"task {task.key} on model {model}"),
    ):
        if named is not None and named not in possible:
            kind = dataset.objective.name.replace("_", " ")
            raise MethodError(
                f"{topology.name} does not answer a {kind} task by {named}.",
                where=where,
                remedy=f"It answers by {' or '.join(possible)}; or remove readout.",
            )
    configured = methods.configure(method)
    if isinstance(configured, methods.ConfiguredBaseline):
        return "head"  # no model answers
    if configured.options.shots and any(example.messages for example in dataset.train):
        raise _refuse("solved examples cannot stand before a conversation", task, method)
    refusals = {readout: _refusal(configured.method, dataset, readout) for readout in possible}
    allowed = [readout for readout in possible if not refusals[readout]]
    if method.readout is not None and method.readout not in allowed:
        raise _refuse(refusals[method.readout], task, method)
    if not allowed:
        raise _refuse(next(iter(refusals.values())), task, method)
    if method.readout is not None:
        return method.readout
    return task.readout if task.readout in allowed else allowed[0]


def possible_readouts(objective: Objective, topology: Topology) -> tuple[Readout, ...]:
    """Return how models of this topology can answer tasks of this kind, the usual way first.

    The result is ``head`` where they cannot at all: opening the model raises the reason.
    """
    headless = objective.readouts if "causal_lm" in topology.heads else ()
    # These objectives read an LM head that came with the checkpoint.
    with_head = objective.head in topology.heads and (objective.draws_head or not headless)
    head: tuple[Readout, ...] = ("head",) if with_head else ()
    return (*headless, *head) or ("head",)


def find_refused_cells(study: Study) -> tuple[Finding, ...]:
    """Return a warning for each method of the study that cannot train on one of its models.

    Raises:
        MethodError: no method can train on any model; or one cannot, and a preset asks for all.
    """
    pairs = [(method, model) for model in study.models for method in study.all_methods]
    errors = [e for method, model in pairs if (e := refuse_training(method, model))]
    needs_all = study.protocol.preset not in BUILT_IN
    if errors and (needs_all or len(errors) == len(pairs)):
        raise errors[0]
    return tuple(
        Finding("warning", "not-possible", error.where, f"is not run: {error.what}", error.remedy)
        for error in errors
    )


def refuse_training(method: MethodSpec, model: ModelSpec) -> MethodError | None:
    """Return why the method cannot train on the model with its quantisation; None where it can."""
    configured = methods.configure(method)
    if model.quantisation is None or isinstance(configured, methods.ConfiguredBaseline):
        return None
    if not configured.cannot_train_quantised:
        return None
    return MethodError(
        f"the model is quantised ({model.quantisation}): {configured.cannot_train_quantised}.",
        where=f"method {method.key} on model {model.key}",
        remedy="Remove the method from the study, or take the model unquantised; "
        "adapters train on a quantised base.",
    )


def _refusal(method: methods.Method | methods.Baseline, dataset: Dataset, readout: Readout) -> str:
    objective = for_readout(dataset.objective, readout, dataset.prompt)
    return methods.refusal(method, objective, tabular=bool(dataset.features), readout=readout)


def _refuse(reason: str, task: TaskSpec, method: MethodSpec) -> MethodError:
    return MethodError(
        f"{reason}.",
        where=f"method {method.key} on task {task.key}",
        remedy="Remove the method or the task from the study.",
    )


def _list_cells(
    study: Study, task: TaskSpec, dataset: Dataset, model: ModelSpec, topology: Topology
) -> list[PreparedCell]:
    """List the study's methods on a model, and the baselines that always stand beside them there.

    The baselines are the probe of the task's kind, where the model can have it; and where the model
    can answer without training, its answers with and without solved examples.
    """
    specs = methods_with_probe(study, dataset.objective)
    if possible_readouts(dataset.objective, topology)[0] != "head":
        names = {spec.name for spec in specs}
        specs += [MethodSpec(name=name) for name in WITHOUT_TRAINING if name not in names]
    cells = []
    for spec in specs:
        if refuse_training(spec, model):
            continue
        try:
            readout = choose_readout(task, dataset, model.key, topology, spec)
        except MethodError:
            if spec.name not in WITH_MODEL:
                raise
        else:
            cells.append(PreparedCell(task, model, spec, readout))
    return cells


def choose_forgetting_text(
    study: Study, task: TaskSpec, topology: Topology
) -> ForgettingText | None:
    """Return the text of ``forgetting`` for final runs of a cell; None where it cannot be measured.

    Only language models have it: decoders, and translators on translations.

    Raises:
        StudyError: the shipped text is not in the task's languages.
        DataError: the file cannot be read, or lacks a language.
    """
    text = study.forgetting
    if text is None:
        return None
    if topology is DECODER:
        read_blocks(text, task.language or task.target_lang)
    elif topology is ENCODER_DECODER and task.languages is not None:
        read_pairs(text, task.languages)
    else:
        return None
    return ForgettingText(text=text, sha256=hash_text(text))
