"""What a trained run answers to rows, or makes of sentences, that it was never scored on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from paretune import methods
from paretune.data.encode import Encoded
from paretune.data.example import Dataset, Example
from paretune.export.restored import Task, restored
from paretune.methods import options as method_options
from paretune.planning.context import Context
from paretune.study import Generation, Run
from paretune.training.evaluate import logits
from paretune.training.prepare import Prepared
from paretune.training.translate import translations


@dataclass(frozen=True)
class Answered:
    """``labels`` (examples,) are indices into the dataset's labels; ``cut`` texts were too long."""

    labels: tuple[int, ...]
    cut: int


@dataclass(frozen=True)
class Translated:
    """``texts`` (examples,), some of them perhaps empty; ``cut`` sources were too long."""

    texts: tuple[str, ...]
    cut: int


def answered(
    run: Run,
    dataset: Dataset,
    examples: Sequence[Example],
    context: Context,
    weights: bytes | None,
) -> Answered:
    """The labels that a run gives to examples, computed as when it was scored.

    Args:
        run: a final run.
        dataset: its task's.
        examples: any of the same form; their labels are not looked at.
        context: where its model's files lie.
        weights: what it trained; None for a baseline, which is fitted again.
    """
    if weights is None:
        return Answered(
            tuple(int(i) for i in _fitted(run, dataset, examples, context).argmax(1)), 0
        )
    precision = _precision(run)
    ours, encoded = _ready(run, dataset, examples, context, weights, precision)
    scores = logits(
        ours.loaded.model,
        encoded,
        fleet=ours.fleet,
        pad_id=ours.pad_id,
        device="cpu",
        precision=precision,
    )
    return Answered(tuple(int(i) for i in scores.argmax(1)), sum(encoded.truncated))


def translated(
    run: Run,
    dataset: Dataset,
    sources: Sequence[str],
    context: Context,
    weights: bytes | None,
) -> Translated:
    """What a run makes of sentences, by the search with which it was scored.

    Args:
        run: a final run of a translation.
        dataset: its task's.
        sources: one sentence each.
        context: where its model's files lie.
        weights: what it trained; None for a baseline.
    """
    examples = [
        Example(f"source:{i}", ((text, None),), None, f"line {i}")
        for i, text in enumerate(sources, 1)
    ]
    if weights is None:
        return Translated(tuple(_fitted(run, dataset, examples, context)), 0)
    precision = _precision(run)
    ours, encoded = _ready(run, dataset, examples, context, weights, precision)
    texts = translations(
        ours.loaded,
        encoded,
        run.generation or Generation(),
        fleet=ours.fleet,
        pad_id=ours.pad_id,
        device="cpu",
        precision=precision,
    )
    return Translated(tuple(texts), sum(encoded.truncated))


def _precision(run: Run) -> Literal["fp32", "bf16"]:
    return "bf16" if run.training.precision == "bf16" else "fp32"


def _fitted(run: Run, dataset: Dataset, examples: Sequence[Example], context: Context) -> Any:
    """What a baseline gives: scores (examples, labels), or texts."""
    method = methods.get(run.method.name)
    options = method_options.parse(method.NAME, method.Options, run.method.options)
    train = context.bench.parts(run).train
    return method.fit(train, len(dataset.labels), options, run.seed)(examples)


def _ready(
    run: Run,
    dataset: Dataset,
    examples: Sequence[Example],
    context: Context,
    weights: bytes,
    precision: Literal["fp32", "bf16"],
) -> tuple[Prepared, Encoded]:
    source = context.source(run.model)
    about = Task(dataset.kind, dataset.labels, dataset.languages)
    ours = restored(run, about, source, weights, precision)
    return ours, context.bench.encode(list(examples), ours.loaded, source, ours.max_length)
