"""``check``: the audit of the data and one dry step of everything; nothing is trained or kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.errors import DataError, ParetuneError
from paretune.report.words import counted
from paretune.study import Checks, MethodSpec, ModelSpec, Study, TaskSpec
from paretune.verbs import places

if TYPE_CHECKING:
    from paretune.data.example import Dataset
    from paretune.data.finding import Finding
    from paretune.planning.context import Context


@dataclass(frozen=True)
class Seen:
    """One thing that was looked at.

    Attributes:
        what: ``task``, ``model``, ``method``, ``metrics``,
            ``lengths``, ``direction`` or ``step``.
        name: which one, as the study calls it.
        said: what it is, in a few words; empty where it cannot be used.
        findings: what the audit found in it.
        error: why it cannot be used; None where it can. Rows of which no example can be made are
            among the findings then, each with its line.
    """

    what: str
    name: str
    said: str = ""
    findings: tuple[Finding, ...] = ()
    error: ParetuneError | None = None

    @property
    def errors(self) -> int:
        """How many errors it has; each is told in a line of its own."""
        return sum(f.severity == "error" for f in self.findings) or int(self.error is not None)


@dataclass(frozen=True)
class Checked:
    """Everything that ``check`` looked at, in order.

    ``tried`` is False where the data could not be read, so that no model was opened.
    """

    study: Study
    seen: tuple[Seen, ...]
    tried: bool = True

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings in the data."""
        return tuple(finding for seen in self.seen for finding in seen.findings)

    @property
    def counts(self) -> Counter[str]:
        """How many errors there are, of whatever kind, and findings: ``warning``, ``note``."""
        found: Counter[str] = Counter(f.severity for f in self.findings if f.severity != "error")
        return found + Counter(error=sum(seen.errors for seen in self.seen))

    @property
    def failed(self) -> tuple[str, ...]:
        """What stands in the way, as ``task reviews``; empty: the study can run."""
        return tuple(dict.fromkeys(f"{s.what} {s.name}" for s in self.seen if s.errors))

    @property
    def errors(self) -> tuple[ParetuneError, ...]:
        """Everything that stands in the way of running the study; empty: it can run."""
        return tuple(
            seen.error or DataError(f"{seen.name}: {counted(seen.errors, 'error')} in the data.")
            for seen in self.seen
            if seen.errors
        )


def check(
    study: Study | Path | str,
    *,
    online: bool = False,
    device: str = "auto",
    told: Callable[[Seen], None] | None = None,
) -> Checked:
    """Look at all data, models and methods of a study; one fault does not hide the others.

    The data comes first; where none of it can be read, no model is opened.

    Args:
        study: a study, its file, or the name of a shipped one.
        online: models and data may be fetched from the hub.
        device: where the dry steps are taken, as ``paretune run`` would train there.
        told: called with each thing as soon as it was looked at.

    Returns:
        What was seen; ``errors`` of it is empty where the study can run.

    Raises:
        StudyError: no such study, or its file cannot be used.
    """
    given = places.asked(study)
    datasets: dict[str, Dataset] = {}
    seen = []
    for one in _tasks(given, datasets, online=online):
        seen.append(one)
        if told is not None:
            told(one)
    for one in _rest(given, datasets, online=online, device=device) if datasets else ():
        seen.append(one)
        if told is not None:
            told(one)
    return Checked(given, tuple(seen), tried=bool(datasets))


def _tasks(study: Study, datasets: dict[str, Dataset], *, online: bool) -> Iterator[Seen]:
    """Read and audit the data, which needs no torch; what could be read is in ``datasets``."""
    from paretune.data.finding import FaultsError, of_each_kind

    for task in study.tasks:
        try:
            dataset = _dataset(task, online=online)
        except FaultsError as error:
            yield Seen("task", task.key, findings=of_each_kind(error.faults), error=error)
        except ParetuneError as error:
            yield Seen("task", task.key, error=error)
        else:
            datasets[task.model_dump_json()] = dataset
            yield _task(task, dataset, study.checks)


def _dataset(spec: TaskSpec, *, online: bool) -> Dataset:
    from paretune import tasks
    from paretune.data import hub

    asked = tasks.at_hub(spec) if online else None
    if asked is not None:
        hub.fetch(asked)
    return tasks.load(spec)


def _rest(
    study: Study, datasets: dict[str, Dataset], *, online: bool, device: str
) -> Iterator[Seen]:
    from paretune.measuring.devices import chosen_device
    from paretune.planning import opening
    from paretune.planning.checking import dry_steps
    from paretune.planning.context import Context

    context = Context(offline=not online)
    context.bench.datasets.update(datasets)
    models: list[ModelSpec] = []
    methods: list[MethodSpec] = []
    tasks = tuple(t for t in study.tasks if t.model_dump_json() in datasets)
    for model in study.models:
        seen = _model(model, context)
        yield seen
        if seen.error is None:
            models.append(model)
    for method in study.methods:
        seen = _method(method, study.protocol.trials, tasks, context)
        yield seen
        if seen.error is None:
            methods.append(method)
    try:
        opening.scorers(study, context)
    except ParetuneError as error:
        yield Seen("metrics", ", ".join(study.generation.metrics), error=error)
    if not (models and methods):
        return
    usable = study.model_copy(
        update={"tasks": tasks, "models": tuple(models), "methods": tuple(methods)}
    )
    device = chosen_device(device)
    context.auto_precision = opening.auto_precision_of(None, device)
    yield from _lengths(usable, context)
    yield from _directions(usable, context)
    try:
        for dry in dry_steps(usable, context, device):
            yield Seen("step", " x ".join(dry.run.cell), dry.said, dry.findings, dry.error)
    except ParetuneError as error:
        yield Seen("step", study.study, error=error)


def _task(spec: TaskSpec, dataset: Dataset, checks: Checks) -> Seen:
    from paretune.data.audit import audit
    from paretune.data.example import said_groups

    what = f"labels {', '.join(dataset.labels)}"
    if dataset.kind == "regression":
        what = "a number"
    elif dataset.kind == "translation":
        what = " to ".join(dataset.languages)
    size = ", ".join(
        f"{len(part)} {name}{said_groups(dataset, part)}"
        for name, part in (("train", dataset.train), ("test", dataset.test))
    )
    said = f"{size}, {what}; licence: {dataset.licence}"
    return Seen("task", spec.key, said, tuple(audit(dataset, checks)))


def _model(spec: ModelSpec, context: Context) -> Seen:
    try:
        source = context.source(spec)
    except ParetuneError as error:
        return Seen("model", spec.key, error=error)
    revision = f" at {source.revision}" if source.revision else ""
    notes = "".join(f"; {note}" for note in source.notes)
    said = f"{source.name}{revision}, files {source.weights_hash[:12]}{notes}"
    return Seen("model", spec.key, said)


def _method(spec: MethodSpec, trials: int, tasks: Sequence[TaskSpec], context: Context) -> Seen:
    """Options, rates, and whether it serves the kinds of all tasks that can be read."""
    from paretune import methods
    from paretune.planning.context import learning_rates

    try:
        module, _ = context.method(spec)
        for task in tasks:
            context.serves(spec, task)
        if not methods.has_rates(module):
            return Seen("method", spec.key, str(module.TITLE))
        rates = learning_rates(spec, module, trials)
    except ParetuneError as error:
        return Seen("method", spec.key, error=error)
    said = f"{module.TITLE}, learning rates {', '.join(f'{rate:g}' for rate in rates)}"
    return Seen("method", spec.key, said)


def _directions(study: Study, context: Context) -> Iterator[Seen]:
    """Whether each model translates the way it is asked to, by what it finds likely."""
    from paretune.data.finding import Finding
    from paretune.planning.checking import directions

    for model in study.models:
        one = study.model_copy(update={"models": (model,)})
        try:
            for name, found in directions(one, context):
                way = f"{found.as_asked:.2f} nats a token as asked, {found.reversed:.2f} reversed"
                said = f"{way} ({found.pairs} pairs)"
                wrong = Finding(
                    "warning",
                    "direction",
                    name,
                    f"the model seems to translate the other way: {way}.",
                    "Exchange source_lang and target_lang, or take the model for this direction.",
                )
                yield Seen("direction", name, said, (wrong,) if found.backwards else ())
        except ParetuneError:
            continue  # the model cannot be opened for the task, which its lengths have told


def _lengths(study: Study, context: Context) -> Iterator[Seen]:
    from paretune.planning.checking import truncations

    for model in study.models:
        for task in study.tasks:
            name = f"{task.key} x {model.key}"
            one = study.model_copy(update={"models": (model,), "tasks": (task,)})
            try:
                found = tuple(truncations(one, context))
            except ParetuneError as error:
                yield Seen("lengths", name, error=error)
                continue
            if found:
                yield Seen("lengths", name, "some texts are cut", found)
