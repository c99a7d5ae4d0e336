"""What planning knows beside the study file: the data, the models' files, the methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from paretune import methods, tasks
from paretune.data.example import Dataset
from paretune.data.sources import hub_datasets
from paretune.errors import MethodError
from paretune.measuring.auto_precision import Precision
from paretune.methods import ConfiguredBaseline, ConfiguredMethod, Rates
from paretune.models.config import load_config
from paretune.models.sources.resolve import ModelSource, resolve_source
from paretune.study import MethodSpec, ModelSpec, Run, Study, TaskSpec, Training, compute_run_id
from paretune.training.caches import ProcessCache

NO_MODEL = ModelSpec(name="-")
"""The model of a baseline that needs none."""


@dataclass
class StudyContext:
    """Answers about one study on this machine; everything is read once.

    ``auto_precision`` gives what ``precision: auto`` means here for a model of some width (None
    without a model); the store keeps what was decided.
    ``offline`` False allows models and datasets to be fetched from the hub.
    """

    auto_precision: Callable[[int | None], Precision] = lambda width: "fp32"
    offline: bool = True
    caches: ProcessCache = field(default_factory=ProcessCache)

    def resolve_precision(self, training: Training, model: ModelSpec) -> Precision:
        """The precision of runs of this model."""
        if training.precision != "auto":
            return training.precision
        return self.auto_precision(None if model == NO_MODEL else self.source(model).width)

    def describe_precisions(self, study: Study) -> str:
        """The precision of the study's runs; where its models differ, that of each."""
        found = {model.key: self.resolve_precision(study.training, model) for model in study.models}
        if len(set(found.values())) == 1:
            return next(iter(found.values()))
        return ", ".join(f"{precision} ({name})" for name, precision in found.items())

    def dataset(self, spec: TaskSpec) -> Dataset:
        """The data of a task; may fetch it when not offline."""
        asked = None if self.offline else tasks.hub_source(spec)
        if asked is not None:
            hub_datasets.fetch_splits(asked)
        return self.caches.dataset(spec)

    def source(self, spec: ModelSpec) -> ModelSource:
        """Where a model's files lie; may fetch them when not offline.

        Raises:
            ModelError: there is none, or its config is that of a model which is not trained here.
        """
        key = spec.model_dump_json()
        if key not in self.caches.sources:
            source = resolve_source(spec, offline=self.offline)
            load_config(source)
            self.caches.sources[key] = source
        return self.caches.sources[key]

    def pin_revisions(self, study: Study) -> Study:
        """The study with every hub model and dataset at the commit that was found for it.

        Workers look for that commit, so a branch that moves meanwhile changes nothing.
        """
        pinned = []
        for task in study.tasks:
            asked = tasks.hub_source(task)
            if asked is not None:
                found = self.dataset(task)
                task = task.model_copy(
                    update={"revision": hub_datasets.pin_revision(asked).revision}
                )
                self.caches.datasets.setdefault(task.model_dump_json(), found)
            pinned.append(task)
        models = []
        for spec in study.models:
            source = self.source(spec)
            if source.revision is not None and not spec.name.startswith("package:"):
                spec = spec.model_copy(update={"revision": source.revision})
                self.caches.sources[spec.model_dump_json()] = source
            models.append(spec)
        return study.model_copy(update={"tasks": tuple(pinned), "models": tuple(models)})

    def method(self, spec: MethodSpec) -> ConfiguredMethod | ConfiguredBaseline:
        """The method with its options checked.

        Raises:
            MethodError: an unknown method, or an option that is not its own or out of range.
        """
        return methods.configure(spec)

    def check_method_serves(self, method: MethodSpec, task: TaskSpec) -> None:
        """Check that the method can be asked to serve the task.

        Raises:
            MethodError: it cannot, and why.
        """
        dataset = self.dataset(task)
        reason = methods.refusal(
            methods.get(method.name), dataset.kind, tabular=bool(dataset.features)
        )
        if reason:
            raise MethodError(
                f"{reason}.",
                where=f"method {method.key} on task {task.key}",
                remedy="Take the method or the task out of the study.",
            )

    def identify(self, run: Run) -> str:
        """The run's identity over its data, weights and method code."""
        weights = "" if run.model == NO_MODEL else self.source(run.model).weights_hash
        return compute_run_id(
            run,
            data_hash=self.dataset(run.task).content_hash,
            weights_hash=weights,
            code_epoch=self.method(run.method).code_epoch,
        )


def choose_learning_rates(spec: MethodSpec, rates: Rates, trials: int) -> tuple[float, ...]:
    """As many rates as every method may try, over the range that suits the method.

    The study's own list is taken as it stands and must have ``trials`` entries: the same tuning
    budget for all. Otherwise ``trials`` rates at equal ratios from the method's low to its high
    (``rates``).

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
