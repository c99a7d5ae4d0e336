"""``check``: the audit of the data and one dry step of everything; nothing is trained or kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.errors import DataError, ParetuneError
from paretune.study import MethodSpec, ModelSpec, Study, TaskSpec
from paretune.verbs import places

if TYPE_CHECKING:
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
        error: why it cannot be used; None where it can.
    """

    what: str
    name: str
    said: str = ""
    findings: tuple[Finding, ...] = ()
    error: ParetuneError | None = None


@dataclass(frozen=True)
class Checked:
    """Everything that ``check`` looked at, in order."""

    study: Study
    seen: tuple[Seen, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings in the data."""
        return tuple(finding for seen in self.seen for finding in seen.findings)

    @property
    def counts(self) -> Counter[str]:
        """Findings by severity: ``error``, ``warning``, ``note``."""
        return Counter(finding.severity for finding in self.findings)

    @property
    def errors(self) -> tuple[ParetuneError, ...]:
        """Everything that stands in the way of running the study; empty: it can run."""
        refused = tuple(seen.error for seen in self.seen if seen.error is not None)
        if not self.counts["error"]:
            return refused
        wrong = f"{self.counts['error']} errors in the data."
        return (DataError(wrong, remedy="Mend them, then check again."), *refused)


def check(
    study: Study | Path | str,
    *,
    online: bool = False,
    told: Callable[[Seen], None] | None = None,
) -> Checked:
    """Look at all data, models and methods of a study; one fault does not hide the others.

    Args:
        study: a study, its file, or the name of a shipped one.
        online: models and data may be fetched from the hub.
        told: called with each thing as soon as it was looked at.

    Returns:
        What was seen; ``errors`` of it is empty where the study can run.

    Raises:
        StudyError: no such study, or its file cannot be used.
    """
    given = places.asked(study)
    seen = []
    for one in _looking(given, online=online):
        seen.append(one)
        if told is not None:
            told(one)
    return Checked(given, tuple(seen))


def _looking(study: Study, *, online: bool) -> Iterator[Seen]:
    from paretune.planning.checking import dry_steps
    from paretune.planning.context import Context
    from paretune.planning.opening import scorers

    context = Context(offline=not online)
    tasks: list[TaskSpec] = []
    models: list[ModelSpec] = []
    methods: list[MethodSpec] = []
    for task in study.tasks:
        seen = _task(task, context)
        yield seen
        if seen.error is None:
            tasks.append(task)
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
        scorers(study, context)
    except ParetuneError as error:
        yield Seen("metrics", ", ".join(study.generation.metrics), error=error)
    if not (tasks and models and methods):
        return
    usable = study.model_copy(
        update={"tasks": tuple(tasks), "models": tuple(models), "methods": tuple(methods)}
    )
    yield from _lengths(usable, context)
    yield from _directions(usable, context)
    try:
        for dry in dry_steps(usable, context):
            yield Seen("step", " x ".join(dry.run.cell), dry.said, dry.findings, dry.error)
    except ParetuneError as error:
        yield Seen("step", study.study, error=error)


def _task(spec: TaskSpec, context: Context) -> Seen:
    from paretune.data.audit import audit
    from paretune.data.example import said_groups

    try:
        dataset = context.dataset(spec)
    except ParetuneError as error:
        return Seen("task", spec.key, error=error)
    what = f"labels {', '.join(dataset.labels)}"
    if dataset.kind == "regression":
        what = "a number"
    elif dataset.kind == "translation":
        what = " to ".join(dataset.languages)
    size = ", ".join(
        f"{len(part)} {name}{said_groups(dataset, part)}"
        for name, part in (("train", dataset.train), ("test", dataset.test))
    )
    said = f"{size}, {what}; {dataset.licence}"
    return Seen("task", spec.key, said, tuple(audit(dataset)))


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
