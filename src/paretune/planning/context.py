"""What planning knows beside the study file: the data, the models' files, the methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from paretune import methods, tasks
from paretune.data.example import Dataset
from paretune.data.sources import hub_datasets
from paretune.errors import MethodError
from paretune.measuring.auto_precision import Precision
from paretune.methods import ConfiguredBaseline, ConfiguredMethod, Rates
from paretune.models.config import load_config
from paretune.models.quantised import require_backend
from paretune.models.sources.resolve import ModelSource, resolve_source
from paretune.models.structure.topologies import DECODER, ENCODER_DECODER, topology_of
from paretune.models.structure.topology import Topology
from paretune.objectives.readouts import for_readout
from paretune.planning.shard import Shard
from paretune.store import Store
from paretune.study import (
    MethodSpec,
    ModelSpec,
    Readout,
    Run,
    Study,
    TaskSpec,
    Training,
    compute_run_id,
    digest,
)
from paretune.study.forgetting_text import ForgettingText
from paretune.tasks.own_data.forgetting_text import hash_text, read_blocks, read_pairs
from paretune.training.caches import ProcessCache

NO_MODEL = ModelSpec(name="-")
"""The model of a baseline that needs none."""


@dataclass
class StudyContext:
    """Data, models and methods of one study on this machine; everything is read once.

    Attributes:
        auto_precision: what ``precision: auto`` means here for a model of some width (None without
            a model); the store keeps what was decided.
        offline: whether nothing may be fetched from the hub.
        caches: data and models of this process.
        topologies: those of models that were asked for.
        predictor: of the work of runs (:class:`~paretune.planning.predicted_cost.CostPredictor`),
            where a search has asked for it.
        searches: what searches have computed (:class:`~paretune.planning.auto.KnownSearch`).
        store: keeps what searches have proposed; None where nothing is kept.
        shard: whose runs alone are planned; None for the whole study.
    """

    auto_precision: Callable[[int | None], Precision] = lambda width: "fp32"
    offline: bool = True
    caches: ProcessCache = field(default_factory=ProcessCache)
    topologies: dict[str, Topology] = field(default_factory=dict)
    predictor: Any = None
    searches: dict[str, Any] = field(default_factory=dict)
    store: Store | None = None
    shard: Shard | None = None
    _forgetting_texts: dict[tuple[Any, ...], ForgettingText | None] = field(default_factory=dict)

    def resolve_precision(self, training: Training, model: ModelSpec) -> Precision:
        """The precision of runs of this model."""
        if training.precision != "auto":
            return training.precision
        return self.auto_precision(None if model == NO_MODEL else self.source(model).width)

    def describe_precisions(self, study: Study) -> str:
        """The precision of the study's runs; where its models differ, that of each."""
        by_model = {m.key: self.resolve_precision(study.training, m) for m in study.models}
        if len(set(by_model.values())) == 1:
            return next(iter(by_model.values()))
        return ", ".join(f"{precision} ({name})" for name, precision in by_model.items())

    def dataset(self, spec: TaskSpec) -> Dataset:
        """The data of a task; fetches it when not offline."""
        hub_source = None if self.offline else tasks.hub_source(spec)
        if hub_source is not None:
            hub_datasets.fetch_splits(hub_source)
        return self.caches.dataset(spec)

    def source(self, spec: ModelSpec) -> ModelSource:
        """The files of a model; fetches them when not offline.

        Raises:
            ModelError: it is missing, or its config is of a kind that is not supported.
        """
        key = spec.model_dump_json()
        if key not in self.caches.sources:
            source = resolve_source(spec, offline=self.offline)
            load_config(source)
            require_backend(spec.quantisation, f"model {spec.key}")
            self.caches.sources[key] = source
        return self.caches.sources[key]

    def topology(self, spec: ModelSpec) -> Topology:
        """How a model's stacks are laid out, and so how it can answer; by its config.

        Raises:
            ModelError: it is missing, or its config is of a kind that is not supported.
        """
        key = spec.model_dump_json()
        if key not in self.topologies:
            self.topologies[key] = topology_of(load_config(self.source(spec)))
        return self.topologies[key]

    def pin_revisions(self, study: Study) -> Study:
        """The study with every hub model and dataset pinned to its present commit.

        Workers use that commit, so a branch that moves meanwhile changes nothing.
        """
        pinned_tasks = []
        for task in study.tasks:
            hub_source = tasks.hub_source(task)
            if hub_source is not None:
                dataset = self.dataset(task)
                revision = hub_datasets.pin_revision(hub_source).revision
                task = task.model_copy(update={"revision": revision})
                self.caches.datasets.setdefault(task.model_dump_json(), dataset)
            pinned_tasks.append(task)
        pinned_models = []
        for spec in study.models:
            source = self.source(spec)
            if source.revision is not None and not spec.name.startswith("package:"):
                spec = spec.model_copy(update={"revision": source.revision})
                self.caches.sources[spec.model_dump_json()] = source
            pinned_models.append(spec)
        return study.model_copy(
            update={"tasks": tuple(pinned_tasks), "models": tuple(pinned_models)}
        )

    def forgetting_text(self, text: str, task: TaskSpec, model: ModelSpec) -> ForgettingText | None:
        """The text of ``forgetting`` for final runs of a cell; None where it cannot be measured.

        It is of language models alone: decoders, and translators on translations.

        Raises:
            StudyError: the shipped text is in other languages than the task's.
            DataError: the file cannot be read, or lacks a language.
        """
        if model == NO_MODEL:
            return None
        key = (text, task.language, task.languages, model.model_dump_json())
        if key not in self._forgetting_texts:
            topology, blocks = self.topology(model), None
            if topology is DECODER:
                blocks = read_blocks(text, task.language or task.target_lang)
            elif topology is ENCODER_DECODER and task.languages is not None:
                blocks = read_pairs(text, task.languages)
            self._forgetting_texts[key] = (
                None if blocks is None else ForgettingText(text=text, sha256=hash_text(text))
            )
        return self._forgetting_texts[key]

    def method(self, spec: MethodSpec) -> ConfiguredMethod | ConfiguredBaseline:
        """The method with its options checked.

        Raises:
            MethodError: an unknown method, or an option that is not its own or out of range.
        """
        return methods.configure(spec)

    def check_method_serves(
        self, method: MethodSpec, task: TaskSpec, readout: Readout = "head"
    ) -> None:
        """Check that the method can serve the task, where models answer by this readout.

        Raises:
            MethodError: it cannot, and why.
        """
        dataset = self.dataset(task)
        objective = for_readout(dataset.objective, readout, dataset.prompt)
        tabular = bool(dataset.features)
        value = methods.get(method.name)
        reason = methods.refusal(value, objective, tabular=tabular, readout=readout)
        if reason:
            raise MethodError(
                f"{reason}.",
                where=f"method {method.key} on task {task.key}",
                remedy="Remove the method or the task from the study.",
            )

    def check_method_trains(self, method: MethodSpec, model: ModelSpec) -> None:
        """Check that the method can train on the model as it is held.

        Raises:
            MethodError: its weights are quantised, and the method trains or rewrites them.
        """
        configured = self.method(method)
        if model.quantisation is None or isinstance(configured, ConfiguredBaseline):
            return
        if configured.cannot_train_quantised:
            raise MethodError(
                f"the model is quantised ({model.quantisation}): "
                f"{configured.cannot_train_quantised}.",
                where=f"method {method.key} on model {model.key}",
                remedy="Remove the method from the study, or take the model unquantised; "
                "adapters train on a quantised base.",
            )

    def identify(self, run: Run) -> str:
        """The run's identity over its data, the prompt that it reads, weights and method code."""
        dataset = self.dataset(run.task)
        data_hash = dataset.content_hash
        if run.readout != "head" and dataset.prompt is not None:
            data_hash = digest([data_hash, dataset.prompt.canonical_form()])
        weights = "" if run.model == NO_MODEL else self._hash_files(run)
        return compute_run_id(
            run,
            data_hash=data_hash,
            weights_hash=weights,
            code_epoch=self.method(run.method).code_epoch,
        )

    def _hash_files(self, run: Run) -> str:
        """Hash of the model's files, and of how it decodes where the run generates texts."""
        source = self.source(run.model)
        if run.generation is None:
            return source.weights_hash
        chosen = run.generation.model_dump(exclude_none=True)  # by the study, in any case
        decoding = {k: v for k, v in source.decoding.items() if k not in chosen}
        return digest([source.weights_hash, decoding]) if decoding else source.weights_hash


def choose_learning_rates(spec: MethodSpec, rates: Rates, trials: int) -> tuple[float, ...]:
    """The learning rates that a method tries: ``trials`` of them, the same number for all methods.

    The study's own list, which must have ``trials`` entries; otherwise rates at equal ratios from
    the method's lowest to its highest (``rates``).

    Raises:
        MethodError: the study gives more or fewer rates than ``protocol.trials``.
    """
    if spec.learning_rates is not None:
        if len(spec.learning_rates) != trials:
            raise MethodError(
                f"{len(spec.learning_rates)} learning rates, but every method gets "
                f"{trials} trials.",
                where=f"method {spec.key}",
                remedy="List as many rates as protocol.trials says, or change trials.",
            )
        return spec.learning_rates
    low, middle, high = rates
    if trials == 1:
        return (middle,)
    if trials == 3:
        return (low, middle, high)
    ratio = (high / low) ** (1 / (trials - 1))
    return tuple(float(f"{low * ratio**i:.3g}") for i in range(trials))
