"""Dry runs of ``check``: one step of every method on every model and task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from paretune import methods
from paretune.data.checks.audit import audit_truncation
from paretune.data.finding import Finding
from paretune.errors import ParetuneError
from paretune.models.load import LoadedModel
from paretune.planning.context import StudyContext
from paretune.planning.pending import plan_pending_runs
from paretune.study import Run, Study
from paretune.tasks import objective_of
from paretune.training.dry_run import DirectionLosses, DryStep, compare_directions, take_dry_step


@dataclass(frozen=True)
class DryRun:
    """Outcome of one cell's dry step.

    Attributes:
        run: the cell's cost run.
        summary: what was trained; "" after an error.
        error: None where it went well.
        findings: texts that are truncated because the method leaves them fewer positions.
    """

    run: Run
    summary: str
    error: ParetuneError | None
    findings: tuple[Finding, ...] = ()


def find_truncations(study: Study, context: StudyContext) -> Iterator[Finding]:
    """Texts that exceed the study's or the model's length, by each model's tokenizer."""
    for model in study.models:
        for task in study.tasks:
            dataset = context.dataset(task)
            context.source(model)
            loaded = context.caches.model(model, dataset)
            length = _text_length(study.training.max_length, loaded)
            yield from audit_truncation(dataset, loaded.tokenizer, length, _source_prefix(loaded))


def check_translation_directions(
    study: Study, context: StudyContext
) -> Iterator[tuple[str, DirectionLosses]]:
    """Losses of each translation model in both directions, by task and model."""
    for task in study.tasks:
        for model in study.models:
            if objective_of(task).between_languages:
                context.dataset(task)
                context.source(model)
                yield f"{task.key} x {model.key}", compare_directions(task, model, context.caches)


def run_dry_steps(study: Study, context: StudyContext, device: str = "cpu") -> Iterator[DryRun]:
    """One step of every method on every model on every task of the study."""
    ready, _ = plan_pending_runs(study, context, [])
    for planned in ready:
        run = planned.run
        if run.stage != "cost" or not isinstance(methods.get(run.method.name), methods.Method):
            continue
        try:
            stepped = take_dry_step(run, context.caches, device)
            yield DryRun(
                run, stepped.summary, None, tuple(_find_extra_truncations(run, stepped, context))
            )
        except ParetuneError as error:
            yield DryRun(run, "", error)


def _find_extra_truncations(run: Run, stepped: DryStep, context: StudyContext) -> Iterator[Finding]:
    """Texts that are truncated with this method, but not without its virtual tokens."""
    dataset = context.dataset(run.task)
    loaded = context.caches.model(run.model, dataset)
    if stepped.text_tokens >= _text_length(run.training.max_length, loaded):
        return
    for finding in audit_truncation(
        dataset, loaded.tokenizer, stepped.text_tokens, _source_prefix(loaded)
    ):
        what = (
            f"{run.method.key}: {stepped.virtual_tokens} virtual tokens leave "
            f"{stepped.text_tokens} of {loaded.anatomy.max_length} positions for the text. "
        )
        yield replace(
            finding,
            code="less-room",
            what=what + finding.what,
            remedy="Use fewer virtual tokens, or compare it knowing that it reads less.",
        )


def _text_length(max_length: int, loaded: LoadedModel) -> int:
    """Tokens of text without virtual tokens."""
    return min(max_length, loaded.anatomy.max_length or max_length)


def _source_prefix(loaded: LoadedModel) -> str:
    return loaded.direction.prefix
