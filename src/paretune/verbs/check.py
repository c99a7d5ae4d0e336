"""``check``: audit the data and try one step of everything; nothing is trained or kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from paretune.data.audit import audit
from paretune.data.example import Dataset, describe_groups
from paretune.data.finding import Finding, InvalidRowsError, summarise_by_code
from paretune.data.split import choose_outer_design
from paretune.errors import DataError, ParetuneError
from paretune.measuring.devices import resolve_devices
from paretune.methods import check_options, configure
from paretune.methods.command import describe_command
from paretune.study import UNNAMED_MODEL, MethodSpec, ModelSpec, Study, TaskSpec
from paretune.tasks import load_dataset, pin_dataset
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line
from paretune.verbs import study_input
from paretune.verbs.options import Devices, Flag, Online, StudyLike
from paretune.verbs.result import Result, Tell, tell_nothing

if TYPE_CHECKING:
    from rich.console import RenderableType

    from paretune.models.structure.topology import Topology
    from paretune.planning.prepare import PreparedStudy
    from paretune.preparation import ProcessCache
    from paretune.terminal.rich_console import Terminal

MAX_FAILED = 5
"""How many failed items the last line names; the lines above have all."""


@dataclass(frozen=True, repr=False)
class CheckedItem(Result):
    """One item that was checked.

    Attributes:
        kind: ``command``, ``task``, ``model``, ``method``, ``methods``, ``metrics``, ``study``,
            ``lengths``, ``direction`` or ``step``.
        name: name of the task, model, method, study or cell.
        description: a few words; empty where the item cannot be used.
        findings: findings in the data; one about several rows has them as its ``places``.
        error: why the item cannot be used; None where it can. The findings then include the rows
            that are no example, each with its line.
    """

    json_fields: ClassVar = ("kind", "name", "description", "findings", "error", "errors")

    kind: str
    name: str
    description: str = ""
    findings: tuple[Finding, ...] = ()
    error: ParetuneError | None = None

    @property
    def errors(self) -> int:
        """How many errors it has; each is shown in its own line."""
        return sum(f.severity == "error" for f in self.findings) or int(self.error is not None)

    def describe(self) -> Iterable[RenderableType]:
        """A line, and one for each finding."""
        state = sanitise_line(self.description)
        if self.error is not None:
            rows_listed = any(finding.severity == "error" for finding in self.findings)
            state = "cannot be used" if rows_listed else f"ERROR {self.error}"
        yield f"{self.kind} {sanitise_line(self.name)}: {state}"
        for finding in self.findings:
            severity = "ERROR" if finding.severity == "error" else finding.severity
            yield f"  {severity}: {sanitise_line(finding)}"

    def show(self, out: Terminal, *, quiet: Flag = False) -> None:
        """Print it, or no more than errors and warnings."""
        problems = tuple(finding for finding in self.findings if finding.severity != "note")
        if not quiet:
            super().show(out)
        elif self.error is not None or problems:
            replace(self, findings=problems).show(out)


@dataclass(frozen=True, repr=False)
class CheckResult(Result):
    """Everything that was checked, in order.

    Attributes:
        study: its name.
        items: what was checked: each with kind, name, description, errors (how many), error (kind,
            what, where, remedy, exit_code; or null) and findings (severity, code, where, what,
            remedy, places: all rows of a finding about several).
    """

    json_fields: ClassVar = ("study", "can_run", "counts", "failed", "models_checked", "items")

    study: Study
    items: tuple[CheckedItem, ...]

    @property
    def can_run(self) -> bool:
        """Whether nothing stands in the way."""
        return not self.failed

    @property
    def counts(self) -> dict[str, int]:
        """How many there are: ``error``, of whatever kind, and findings: ``warning``, ``note``."""
        severities = Counter(f.severity for item in self.items for f in item.findings)
        errors = sum(item.errors for item in self.items)
        return {"error": errors, "warning": severities["warning"], "note": severities["note"]}

    @property
    def failed(self) -> tuple[str, ...]:
        """Items that cannot be used, as ``task reviews``; if there are none, the study can run."""
        return tuple(
            dict.fromkeys(f"{item.kind} {item.name}" for item in self.items if item.errors)
        )

    @property
    def models_checked(self) -> bool:
        """False where no data could be read or a method is wrong, so that no model was opened."""
        return any(item.kind == "model" for item in self.items)

    @property
    def errors(self) -> tuple[ParetuneError, ...]:
        """Everything that stands in the way of running the study; empty: it can run."""
        return tuple(
            item.error or DataError(f"{item.name}: {pluralise(item.errors, 'error')} in the data.")
            for item in self.items
            if item.errors
        )

    @property
    def exit_code(self) -> int:
        """The exit code of the first error."""
        return self.errors[0].exit_code if self.errors else 0

    @property
    def summary(self) -> str:
        """How many errors, warnings and notes, and whether the study can run."""
        counts = ", ".join(pluralise(count, severity) for severity, count in self.counts.items())
        if self.can_run:
            return f"{counts}: the study can run. Nothing was trained."
        names = ", ".join(map(sanitise_line, self.failed[:MAX_FAILED]))
        rest = len(self.failed) - MAX_FAILED
        names += f" and {rest} more" if rest > 0 else ""
        tried = ""
        if not self.models_checked:
            tried = " Models and methods were not tried without the data."
            if any(item.kind == "method" for item in self.items):
                tried = " No model was opened."
        return f"{counts}: the study cannot run. Failed: {names}.{tried}"

    def describe(self) -> Iterable[RenderableType]:
        """Each item, and a summary."""
        for item in self.items:
            yield from item.describe()
        yield self.summary

    def show(self, out: Terminal, *, quiet: Flag = False) -> None:
        """Print the summary: items are told as soon as they are checked.

        Args:
            quiet: Only errors, warnings and the last line.
        """
        out.print(self.summary, soft_wrap=True)
        if self.can_run and not quiet:
            out.print(f"Next: paretune plan {self.study.typed}", soft_wrap=True)


def check(
    study: StudyLike,
    *,
    online: Online = False,
    devices: Devices = "auto",
    tell: Tell = tell_nothing,
) -> CheckResult:
    """Check data, models and methods before a run.

    Every method takes one step on every model. Nothing is trained or kept. Every problem is shown
    with file, line and remedy; the exit code is that of the first. The data comes first, then
    options of methods: if no data can be read, or an option is wrong, no model is opened.

    Args:
        tell: called with each :class:`CheckedItem` as soon as it was checked.

    Raises:
        StudyError: no such study, or its file cannot be used.
    """
    study = study_input.load_study(study)
    items = []
    for item in _check_study(study, offline=not online, devices=devices):
        items.append(item)
        tell(item)
    return CheckResult(study, tuple(items))


def _check_study(study: Study, *, offline: bool, devices: str) -> Iterator[CheckedItem]:
    """Data, which needs no torch; models and methods; then the cells that can be prepared."""
    datasets: dict[str, Dataset] = {}
    topologies: dict[str, Topology] = {}

    def check_task(spec: TaskSpec) -> Checked:
        """Read and audit the data."""
        dataset = load_dataset(pin_dataset(spec, offline=offline))
        datasets[spec.key] = dataset
        design = choose_outer_design(study.protocol, spec, dataset)
        test = "test" if spec.test is None else f"test ({Path(spec.test).name})"
        parts = [("train", dataset.train), (test, dataset.test)]
        parts += [("test_shifted", dataset.shifted)] if dataset.shifted else []
        size = ", ".join(f"{len(p)} {name}{describe_groups(dataset, p)}" for name, p in parts)
        if design.folds:
            rows = len(dataset.train) + len(dataset.test)
            size = f"{rows} rows, all tested by {design.folds}-fold cross-validation"
        if dataset.predicts_unlabelled:
            size += f", {len(dataset.unlabelled)} unlabelled rows"
        values = ", ".join(dataset.labels) or " to ".join(dataset.languages)
        target = dataset.objective.title + (f" ({values})" if values else "")
        description = f"{size}, {target}; licence: {dataset.licence}"
        return description, tuple(audit(dataset, study.checks, design))

    def check_model(spec: ModelSpec) -> Checked:
        """Find the model and read its weights."""
        from paretune.models.load import require_finite_weights
        from paretune.models.quantised import require_backend
        from paretune.models.structure.heads import load_config
        from paretune.models.structure.topology import topology_of

        source = caches.source(spec, offline=offline)
        require_finite_weights(source)
        topologies[spec.key] = topology_of(load_config(source))
        require_backend(spec.quantisation, f"model {spec.key}")
        revision = f" at {source.revision}" if source.revision else ""
        notes = "".join(f"; {note}" for note in source.notes)
        return f"{source.name}{revision}, files {source.weights_hash[:12]}{notes}", ()

    def check_method(spec: MethodSpec) -> Checked:
        """Rates, and whether it serves all tasks and models that can be read."""
        from paretune.models.structure.topology import ENCODER
        from paretune.planning import prepare
        from paretune.planning.expand import choose_learning_rates

        configured, models_by_rates = configure(spec), dict[tuple[float, ...], list[str]]()
        for task in tasks:
            prepare.check_method(spec, task, datasets[task.key], topologies)
        if spec.is_command and spec.learning_rates:
            models_by_rates[spec.learning_rates] = []
        for name, topology in (topologies or {"": ENCODER}).items():
            default_rates = configured.learning_rates(topology)
            if default_rates is not None:
                rates = choose_learning_rates(spec, default_rates, study.protocol.most_rates)
                models_by_rates.setdefault(rates, []).append(name)
        listed = [
            ", ".join(f"{rate:g}" for rate in rates)
            + (f" ({', '.join(names)})" if len(models_by_rates) > 1 else "")
            for rates, names in models_by_rates.items()
        ]
        title = configured.method.title
        return f"{title}, learning rates {'; '.join(listed)}" if listed else title, ()

    def check_command(spec: MethodSpec) -> Checked:
        """Describe the command, for the user to read before it is started."""
        check_options(spec, study)
        return describe_command(spec), ()

    yield from (_check("command", spec.key, check_command, spec) for spec in study.commands)
    yield from (_check("task", task.key, check_task, task) for task in study.tasks)
    if not datasets:
        return

    options = [_check("method", spec.key, check_options, spec, study) for spec in study.methods]
    if wrong := [item for item in options if item.error is not None]:
        yield from wrong
        return
    from paretune.preparation import ProcessCache

    caches = ProcessCache()
    tasks = tuple(task for task in study.tasks if task.key in datasets)
    caches.datasets |= {pin_dataset(t).model_dump_json(): datasets[t.key] for t in tasks}
    named = [model for model in study.models if model != UNNAMED_MODEL]
    yield from (_check("model", model.key, check_model, model) for model in named)
    methods: list[MethodSpec] = []
    for method in study.all_methods:
        item = _check("method", method.key, check_method, method)
        yield item
        methods += [method] if item.error is None else []
    models = tuple(m for m in study.models if m.key in topologies or m == UNNAMED_MODEL)
    usable = study.model_copy(update={"tasks": tasks, "models": models, "methods": tuple(methods)})
    yield from _check_cells(usable, datasets, caches, offline=offline, devices=devices)


def _check_cells(
    usable: Study,
    datasets: Mapping[str, Dataset],
    caches: ProcessCache,
    *,
    offline: bool,
    devices: str,
) -> Iterator[CheckedItem]:
    """Check tasks, models and methods of a study together; yield only items with findings."""
    from paretune.planning import checks
    from paretune.planning.expand import expand_study, plan_runs
    from paretune.planning.prepare import find_refused_cells, prepare_study

    def check_splits(task: TaskSpec) -> None:
        """Cut the data as the baselines without a model need it."""
        alone = prepare_study(usable.model_copy(update={"tasks": (task,), "models": ()}), caches)
        checks.check_splits([planned.run for planned in expand_study(alone, [])], caches)

    refused = _check(
        "methods", usable.study, lambda: ("some cells are not possible", find_refused_cells(usable))
    )
    chosen = [*(task.metric for task in usable.tasks if task.metric), *usable.generation.metrics]
    check_metrics = partial(checks.check_optional_metrics, offline=offline)
    tested = [datasets[task.key] for task in usable.tasks]
    names = ", ".join(dict.fromkeys(chosen))
    metrics = _check("metrics", names, check_metrics, tested, usable.generation, caches)
    splits = [_check("task", task.key, check_splits, task) for task in usable.tasks]
    yield from (item for item in (refused, metrics, *splits) if item.findings or item.error)
    tasks = tuple(t for t, item in zip(usable.tasks, splits, strict=True) if item.error is None)
    if refused.error is not None or not (tasks and usable.models and usable.methods):
        return
    cells = usable.model_copy(update={"tasks": tasks})
    try:
        device = resolve_devices(devices)[0]
        prepared = prepare_study(cells, caches).in_store(None, device)
    except ParetuneError as error:
        yield CheckedItem("study", usable.study, error=error)
        return
    try:
        yield from _check_pairs(prepared)
        runs = plan_runs(prepared, []).list_coming([])
        for dry in checks.run_dry_steps(prepared, runs, device):
            name = " x ".join(dry.run.cell)
            yield CheckedItem("step", name, dry.summary, dry.findings, dry.error)
    except ParetuneError as error:
        yield CheckedItem("step", usable.study, error=error)


Checked = tuple[str, "tuple[Finding, ...]"]
"""A description of what was checked, and findings."""


def _check(
    kind: str, name: str, look: Callable[..., Checked | None], *arguments: Any
) -> CheckedItem:
    """Ask a function about an item, and catch the error of a user that it raises."""
    try:
        return CheckedItem(kind, name, *(look(*arguments) or ()))
    except InvalidRowsError as error:
        return CheckedItem(kind, name, findings=summarise_by_code(error.findings), error=error)
    except ParetuneError as error:
        return CheckedItem(kind, name, error=error)


def _check_pairs(prepared: PreparedStudy) -> Iterator[CheckedItem]:
    """Find the texts that each model cuts, and whether it translates in the requested direction.

    The likelihood of references tells the direction.
    """
    from paretune.planning.checks import compare_directions, find_truncations

    directions = []
    for model, task in product(prepared.models, prepared.tasks):
        name = f"{task.key} x {model.key}"
        try:
            if cut := tuple(find_truncations(prepared, task, model)):
                yield CheckedItem("lengths", name, "some texts are cut", cut)
            objective = prepared.datasets[task.key].objective
            heads = prepared.topologies[model.key].heads  # a decoder is asked by a prompt
            if not objective.between_languages or objective.head not in heads:
                continue
            direction = compare_directions(task, model, prepared.caches)
        except ParetuneError as error:  # the model cannot be opened for the task
            yield CheckedItem("lengths", name, error=error)
            continue
        losses = (
            f"{direction.requested:.2f} nats a token as asked, {direction.reversed:.2f} reversed"
        )
        warning = Finding(
            "warning",
            "direction",
            name,
            f"the model seems to translate the other way: {losses}.",
            "Exchange source_lang and target_lang, or take the model for this direction.",
        )
        findings = (warning,) if direction.looks_reversed else ()
        description = f"{losses} ({direction.pairs} pairs)"
        directions.append(CheckedItem("direction", name, description, findings))
    yield from directions
