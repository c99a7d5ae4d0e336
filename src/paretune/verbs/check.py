"""``check``: audit the data and try one step of everything; nothing is trained or kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.errors import DataError, ParetuneError
from paretune.study import MethodSpec, ModelSpec, Study, TaskSpec
from paretune.terminal.notebook import html_lines, html_table
from paretune.terminal.plural import pluralise
from paretune.verbs import study_input

if TYPE_CHECKING:
    from paretune.data.example import Dataset
    from paretune.data.finding import Finding
    from paretune.models.structure.topology import Topology
    from paretune.planning.prepare import PreparedStudy
    from paretune.training.caches import ProcessCache


@dataclass(frozen=True)
class CheckedItem:
    """One item that was checked.

    Attributes:
        kind: ``task``, ``model``, ``method``, ``methods``, ``metrics``, ``lengths``, ``direction``
            or ``step``.
        description: a few words; empty where it cannot be used.
        error: why it cannot be used; None where it can. Rows of which no example can be made are
            among the findings then, each with its line.
    """

    kind: str
    name: str
    description: str = ""
    findings: tuple[Finding, ...] = ()
    error: ParetuneError | None = None

    @property
    def errors(self) -> int:
        """How many errors it has; each is shown in its own line."""
        return sum(f.severity == "error" for f in self.findings) or int(self.error is not None)


@dataclass(frozen=True)
class CheckResult:
    """Everything that was checked, in order.

    ``models_checked`` is False where the data could not be read, so that no model was opened.
    """

    study: Study
    items: tuple[CheckedItem, ...]
    models_checked: bool = True

    def _repr_html_(self) -> str:
        rows: list[tuple[object, ...]] = [
            (item.kind, item.name, finding.severity, finding)
            for item in self.items
            for finding in item.findings
        ]
        rows += [
            (item.kind, item.name, "error", item.error)
            for item in self.items
            if item.error is not None and not item.findings
        ]
        verdict = "The study cannot run." if self.errors else "The study can run."
        return html_lines([verdict], bold=True) + html_table(("of", "name", "is", "what"), rows)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings in the data."""
        return tuple(finding for item in self.items for finding in item.findings)

    @property
    def counts(self) -> Counter[str]:
        """How many errors there are, of whatever kind, and findings: ``warning``, ``note``."""
        counts: Counter[str] = Counter(f.severity for f in self.findings if f.severity != "error")
        return counts + Counter(error=sum(seen.errors for seen in self.items))

    @property
    def failed(self) -> tuple[str, ...]:
        """What stands in the way, as ``task reviews``; empty: the study can run."""
        return tuple(
            dict.fromkeys(f"{item.kind} {item.name}" for item in self.items if item.errors)
        )

    @property
    def errors(self) -> tuple[ParetuneError, ...]:
        """Everything that stands in the way of running the study; empty: it can run."""
        return tuple(
            item.error or DataError(f"{item.name}: {pluralise(item.errors, 'error')} in the data.")
            for item in self.items
            if item.errors
        )


def check(
    study: Study | Path | str,
    *,
    online: bool = False,
    devices: str = "auto",
    on_item: Callable[[CheckedItem], None] | None = None,
) -> CheckResult:
    """Check all data, models and methods of a study; one error does not hide the others.

    The data comes first; if none of it can be read, no model is opened.

    Args:
        study: a study, its file, or the name of a shipped one.
        online: models and data may be downloaded from the hub.
        devices: as of ``paretune run``; the dry steps are taken on the first.
        on_item: called with each item as soon as it was checked.

    Returns:
        All items; its ``errors`` are empty if the study can run.

    Raises:
        StudyError: no such study, or its file cannot be used.
    """
    study = study_input.resolve_study(study)
    datasets: dict[str, Dataset] = {}
    items = []
    for item in _check_tasks(study, datasets, online=online):
        items.append(item)
        if on_item is not None:
            on_item(item)
    for item in (
        _check_models_and_methods(study, datasets, online=online, devices=devices)
        if datasets
        else ()
    ):
        items.append(item)
        if on_item is not None:
            on_item(item)
    return CheckResult(study, tuple(items), models_checked=bool(datasets))


def _check_tasks(
    study: Study, datasets: dict[str, Dataset], *, online: bool
) -> Iterator[CheckedItem]:
    """Read and audit the data, which needs no torch; what could be read is in ``datasets``."""
    from paretune import tasks
    from paretune.data.finding import InvalidRowsError, summarise_by_code

    for task in study.tasks:
        try:
            dataset = tasks.load_dataset(tasks.pin_dataset(task, offline=not online))
        except InvalidRowsError as error:
            yield CheckedItem(
                "task", task.key, findings=summarise_by_code(error.findings), error=error
            )
        except ParetuneError as error:
            yield CheckedItem("task", task.key, error=error)
        else:
            datasets[task.key] = dataset
            yield _check_task(study, task, dataset)


def _check_models_and_methods(
    study: Study, datasets: dict[str, Dataset], *, online: bool, devices: str
) -> Iterator[CheckedItem]:
    """Check what can be of each model and method; then prepare the study with those that can be."""
    from paretune.measuring.devices import resolve_devices
    from paretune.models.config import load_config
    from paretune.models.structure.topology import topology_of
    from paretune.planning import preflight
    from paretune.planning.dry_runs import run_dry_steps
    from paretune.planning.expand import expand_study
    from paretune.planning.prepare import describe_refused, find_refused_cells, prepare_study
    from paretune.tasks import pin_dataset
    from paretune.training.caches import ProcessCache

    caches = ProcessCache()
    topologies: dict[str, Topology] = {}
    methods: list[MethodSpec] = []
    tasks = tuple(task for task in study.tasks if task.key in datasets)
    caches.datasets |= {pin_dataset(t).model_dump_json(): datasets[t.key] for t in tasks}
    for model in study.models:
        item = _check_model(model, caches, online=online)
        yield item
        if item.error is None:
            topologies[model.key] = topology_of(load_config(caches.source(model)))
    for method in study.all_methods:
        item = _check_method(method, study.protocol.trials, tasks, datasets, topologies)
        yield item
        if item.error is None:
            methods.append(method)
    models = tuple(model for model in study.models if model.key in topologies)
    usable = study.model_copy(update={"tasks": tasks, "models": models, "methods": tuple(methods)})
    try:
        if impossible := tuple(describe_refused(find_refused_cells(usable))):
            yield CheckedItem("methods", study.study, "some cells are not possible", impossible)
    except ParetuneError as error:
        yield CheckedItem("methods", study.study, error=error)
        methods = []
    try:
        preflight.check_optional_metrics(
            [datasets[task.key] for task in tasks], study.generation, caches, offline=not online
        )
    except ParetuneError as error:
        names = [*(task.metric for task in tasks if task.metric), *study.generation.metrics]
        yield CheckedItem("metrics", ", ".join(dict.fromkeys(names)), error=error)
    splittable = []
    for task in tasks:
        try:  # as the baselines without a model need it
            alone = prepare_study(
                usable.model_copy(update={"tasks": (task,), "models": ()}), caches
            )
            preflight.check_splits([p.run for p in expand_study(alone, [])], caches)
            splittable.append(task)
        except DataError as error:
            yield CheckedItem("task", task.key, error=error)
    if not (splittable and models and methods):
        return
    usable = usable.model_copy(update={"tasks": tuple(splittable)})
    device = resolve_devices(devices)[0]
    try:
        prepared = prepare_study(usable, caches).in_store(None, device)
        yield from _check_lengths(prepared)
        yield from _check_directions(prepared)
        for dry in run_dry_steps(prepared, device):
            yield CheckedItem(
                "step", " x ".join(dry.run.cell), dry.summary, dry.findings, dry.error
            )
    except ParetuneError as error:
        yield CheckedItem("step", study.study, error=error)


def _check_task(study: Study, spec: TaskSpec, dataset: Dataset) -> CheckedItem:
    from paretune.data.audit import audit
    from paretune.data.example import describe_groups
    from paretune.data.split import choose_outer_design

    target = dataset.objective.describe(dataset.labels, dataset.languages)
    test = "test" if spec.test is None else f"test ({Path(spec.test).name})"
    size = ", ".join(
        f"{len(part)} {name}{describe_groups(dataset, part)}"
        for name, part in (
            *(("train", dataset.train), (test, dataset.test)),
            *([("test_shifted", dataset.shifted)] if dataset.shifted else []),
        )
    )
    about = f"{target}; licence: {dataset.licence}"
    description = f"{size}, {about}"
    try:
        design = choose_outer_design(study.protocol, spec, dataset)
    except ParetuneError as error:
        return CheckedItem("task", spec.key, description, error=error)
    if design.folds:
        rows = len(dataset.train) + len(dataset.test)
        description = f"{rows} rows, all tested by {design.folds}-fold cross-validation, {about}"
    return CheckedItem("task", spec.key, description, tuple(audit(dataset, study.checks, design)))


def _check_model(spec: ModelSpec, caches: ProcessCache, *, online: bool) -> CheckedItem:
    from paretune.models.load import require_finite_weights
    from paretune.planning.prepare import find_source

    try:
        source = find_source(spec, caches, offline=not online)
        require_finite_weights(source)
    except ParetuneError as error:
        return CheckedItem("model", spec.key, error=error)
    revision = f" at {source.revision}" if source.revision else ""
    notes = "".join(f"; {note}" for note in source.notes)
    description = f"{source.name}{revision}, files {source.weights_hash[:12]}{notes}"
    return CheckedItem("model", spec.key, description)


def _check_method(
    spec: MethodSpec,
    trials: int,
    tasks: Sequence[TaskSpec],
    datasets: Mapping[str, Dataset],
    topologies: Mapping[str, Topology],
) -> CheckedItem:
    """Options, rates, and whether it serves all tasks and models that can be read."""
    from paretune.methods import configure
    from paretune.models.structure.topology import ENCODER
    from paretune.planning.expand import choose_learning_rates
    from paretune.planning.prepare import check_method

    try:
        configured = configure(spec)
        for task in tasks:
            check_method(spec, task, datasets[task.key], topologies)
        title = configured.method.title
        models_of: dict[tuple[float, ...], list[str]] = {}
        for name, topology in (topologies or {"": ENCODER}).items():
            default_rates = configured.learning_rates(topology)
            if default_rates is not None:
                rates = choose_learning_rates(spec, default_rates, trials)
                models_of.setdefault(rates, []).append(name)
    except ParetuneError as error:
        return CheckedItem("method", spec.key, error=error)
    listed = [
        ", ".join(f"{rate:g}" for rate in rates)
        + (f" ({', '.join(names)})" if len(models_of) > 1 else "")
        for rates, names in models_of.items()
    ]
    description = f"{title}, learning rates {'; '.join(listed)}" if listed else title
    return CheckedItem("method", spec.key, description)


def _check_directions(prepared: PreparedStudy) -> Iterator[CheckedItem]:
    """Whether each model translates in the requested direction, by the likelihood of references."""
    from paretune.data.finding import Finding
    from paretune.planning.dry_runs import compare_directions

    for model in prepared.models:
        heads = prepared.topologies[model.key].heads  # a decoder is asked by a prompt
        for task in prepared.tasks:
            objective = prepared.datasets[task.key].objective
            if not objective.between_languages or objective.head not in heads:
                continue
            try:
                direction = compare_directions(task, model, prepared.caches)
            except ParetuneError:
                break  # the model cannot be opened for the task, which its lengths have shown
            losses = (
                f"{direction.requested:.2f} nats a token as asked, "
                f"{direction.reversed:.2f} reversed"
            )
            name, description = f"{task.key} x {model.key}", f"{losses} ({direction.pairs} pairs)"
            warning = Finding(
                "warning",
                "direction",
                name,
                f"the model seems to translate the other way: {losses}.",
                "Exchange source_lang and target_lang, or take the model for this direction.",
            )
            yield CheckedItem(
                "direction", name, description, (warning,) if direction.looks_reversed else ()
            )


def _check_lengths(prepared: PreparedStudy) -> Iterator[CheckedItem]:
    from paretune.planning.dry_runs import find_truncations

    for model in prepared.models:
        for task in prepared.tasks:
            name = f"{task.key} x {model.key}"
            try:
                findings = tuple(find_truncations(prepared, task, model))
            except ParetuneError as error:
                yield CheckedItem("lengths", name, error=error)
                continue
            if findings:
                yield CheckedItem("lengths", name, "some texts are cut", findings)
