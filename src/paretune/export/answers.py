"""What a trained run answers to rows that it was never scored on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from paretune import methods
from paretune.data.encode import encode
from paretune.data.example import Dataset, Example
from paretune.export.restored import Task, restored
from paretune.methods import options as method_options
from paretune.planning.context import Context
from paretune.study import Run
from paretune.training.evaluate import logits
from paretune.training.objective import Scores


@dataclass(frozen=True)
class Answered:
    """``labels`` (examples,) are indices into the dataset's labels; ``cut`` texts were too long."""

    labels: tuple[int, ...]
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
    method = methods.get(run.method.name)
    if not methods.trains_a_model(method):
        options = method_options.parse(method.NAME, method.Options, run.method.options)
        train = context.bench.parts(run).train
        scores: Scores = method.fit(train, len(dataset.labels), options, run.seed)(examples)
        return Answered(tuple(int(i) for i in scores.argmax(1)), 0)
    if weights is None:
        raise ValueError(f"{run.method.key} answers with the weights that it trained")
    precision: Literal["fp32", "bf16"] = "bf16" if run.training.precision == "bf16" else "fp32"
    about = Task(dataset.kind, dataset.labels, dataset.languages)
    ours = restored(run, about, context.source(run.model), weights, precision)
    encoded = encode(examples, ours.loaded.tokenizer, ours.max_length)
    scores = logits(
        ours.loaded.model,
        encoded,
        fleet=ours.fleet,
        pad_id=ours.pad_id,
        device="cpu",
        precision=precision,
    )
    return Answered(tuple(int(i) for i in scores.argmax(1)), sum(encoded.truncated))
