"""What ``check`` looks at beside the data: every method on every model on every task, one step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from paretune import methods
from paretune.data.audit import truncation
from paretune.data.finding import Finding
from paretune.errors import ParetuneError
from paretune.planning.context import Context
from paretune.planning.upcoming import upcoming
from paretune.study import Run, Study
from paretune.training.dry import Likelihoods, dry_step, likelihoods
from paretune.training.guards import DivergedError


@dataclass(frozen=True)
class Dry:
    """How one cell's dry step went. ``error`` is None where it went well."""

    run: Run
    said: str
    error: ParetuneError | None


def truncations(study: Study, context: Context) -> Iterator[Finding]:
    """What the study's length would cut, with each model's own tokenizer."""
    for model in study.models:
        for task in study.tasks:
            dataset = context.dataset(task)
            context.source(model)
            loaded = context.bench.model(model, dataset)
            prefix = "" if loaded.direction is None else loaded.direction.prefix
            yield from truncation(dataset, loaded.tokenizer, study.training.max_length, prefix)


def directions(study: Study, context: Context) -> Iterator[tuple[str, Likelihoods]]:
    """For each translation and model, which way the model translates."""
    for task in study.tasks:
        for model in study.models:
            if task.translates:
                context.dataset(task)
                context.source(model)
                yield f"{task.key} x {model.key}", likelihoods(task, model, context.bench)


def dry_steps(study: Study, context: Context) -> Iterator[Dry]:
    """One step of every method on every model on every task of the study."""
    ready, _ = upcoming(study, context, [])
    for planned in ready:
        run = planned.run
        if run.stage != "cost" or not methods.trains_a_model(methods.get(run.method.name)):
            continue
        try:
            said = dry_step(run, context.bench)
            yield Dry(run, said, None)
        except DivergedError as error:
            yield Dry(run, str(error), None)
        except ParetuneError as error:
            yield Dry(run, "", error)
