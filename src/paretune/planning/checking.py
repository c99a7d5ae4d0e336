"""What ``check`` looks at beside the data: every method on every model on every task, one step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from paretune import methods
from paretune.data.audit import truncation
from paretune.data.finding import Finding
from paretune.errors import ParetuneError
from paretune.models.load import Loaded
from paretune.planning.context import Context
from paretune.planning.upcoming import upcoming
from paretune.study import Run, Study
from paretune.training.dry import Likelihoods, Stepped, dry_step, likelihoods


@dataclass(frozen=True)
class Dry:
    """How one cell's dry step went. ``error`` is None where it went well.

    ``findings``: texts that are cut because the method leaves less room than others do.
    """

    run: Run
    said: str
    error: ParetuneError | None
    findings: tuple[Finding, ...] = ()


def truncations(study: Study, context: Context) -> Iterator[Finding]:
    """What the study's length, or the model's own, would cut; with each model's own tokenizer."""
    for model in study.models:
        for task in study.tasks:
            dataset = context.dataset(task)
            context.source(model)
            loaded = context.bench.model(model, dataset)
            length = _length(study.training.max_length, loaded)
            yield from truncation(dataset, loaded.tokenizer, length, _prefix(loaded))


def directions(study: Study, context: Context) -> Iterator[tuple[str, Likelihoods]]:
    """For each translation and model, which way the model translates."""
    for task in study.tasks:
        for model in study.models:
            if task.translates:
                context.dataset(task)
                context.source(model)
                yield f"{task.key} x {model.key}", likelihoods(task, model, context.bench)


def dry_steps(study: Study, context: Context, device: str = "cpu") -> Iterator[Dry]:
    """One step of every method on every model on every task of the study."""
    ready, _ = upcoming(study, context, [])
    for planned in ready:
        run = planned.run
        if run.stage != "cost" or not methods.trains_a_model(methods.get(run.method.name)):
            continue
        try:
            stepped = dry_step(run, context.bench, device)
            yield Dry(run, stepped.said, None, tuple(_less_room(run, stepped, context)))
        except ParetuneError as error:
            yield Dry(run, "", error)


def _less_room(run: Run, stepped: Stepped, context: Context) -> Iterator[Finding]:
    """Texts that this method cuts and methods without virtual tokens do not."""
    dataset = context.dataset(run.task)
    loaded = context.bench.model(run.model, dataset)
    if stepped.text_tokens >= _length(run.training.max_length, loaded):
        return
    for found in truncation(dataset, loaded.tokenizer, stepped.text_tokens, _prefix(loaded)):
        what = (
            f"{run.method.key}: {stepped.virtual_tokens} virtual tokens leave "
            f"{stepped.text_tokens} of {loaded.anatomy.max_length} positions to the text. "
        )
        yield replace(
            found,
            code="less-room",
            what=what + found.what,
            remedy="Use fewer virtual tokens, or compare it knowing that it reads less.",
        )


def _length(max_length: int, loaded: Loaded) -> int:
    """Tokens of text where a method takes none for itself."""
    return min(max_length, loaded.anatomy.max_length or max_length)


def _prefix(loaded: Loaded) -> str:
    return "" if loaded.direction is None else loaded.direction.prefix
