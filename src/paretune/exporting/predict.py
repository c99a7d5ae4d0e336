"""What a trained run answers to rows, or makes of sentences, that it was never scored on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from paretune import methods
from paretune.data.example import Dataset, Example
from paretune.exporting.restore import TaskSignature, restore_run
from paretune.methods import ConfiguredBaseline
from paretune.objectives.encoding import Encoded
from paretune.planning.context import StudyContext
from paretune.study import Generation, Run
from paretune.training.evaluation.generate import generate
from paretune.training.evaluation.predict import evaluate_alone
from paretune.training.forward.select import forward_for
from paretune.training.precision import Compute
from paretune.training.prepare import PreparedModel


@dataclass(frozen=True)
class PredictedLabels:
    """``labels`` (examples,) are indices into the dataset's labels; ``cut`` texts were too long."""

    labels: tuple[int, ...]
    cut: int


@dataclass(frozen=True)
class Translations:
    """``texts`` (examples,), some of them perhaps empty; ``cut`` sources were too long."""

    texts: tuple[str, ...]
    cut: int


def predict_labels(
    run: Run,
    dataset: Dataset,
    examples: Sequence[Example],
    context: StudyContext,
    weights: bytes | None,
) -> PredictedLabels:
    """The labels that a run gives to examples, computed as when it was scored.

    Args:
        run: a final run.
        dataset: its task's.
        examples: any of the same form; their labels are not looked at.
        context: where its model's files lie.
        weights: what it trained; None for a baseline, which is fitted again.
    """
    if weights is None:
        return PredictedLabels(
            tuple(int(i) for i in _fit_and_predict(run, dataset, examples, context).argmax(1)), 0
        )
    compute = Compute.of(run, "cpu")
    ours, encoded = _restore_and_encode(run, dataset, examples, context, weights, compute.precision)
    scores = evaluate_alone(forward_for(ours.loaded, ours.fleet, compute), encoded)
    return PredictedLabels(tuple(int(i) for i in scores.argmax(1)), sum(encoded.truncated))


def translate_sentences(
    run: Run,
    dataset: Dataset,
    sources: Sequence[str],
    context: StudyContext,
    weights: bytes | None,
) -> Translations:
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
        return Translations(tuple(_fit_and_predict(run, dataset, examples, context)), 0)
    compute = Compute.of(run, "cpu")
    ours, encoded = _restore_and_encode(run, dataset, examples, context, weights, compute.precision)
    texts = generate(ours.loaded, ours.fleet, compute, encoded, run.generation or Generation())
    return Translations(tuple(texts), sum(encoded.truncated))


def _fit_and_predict(
    run: Run, dataset: Dataset, examples: Sequence[Example], context: StudyContext
) -> Any:
    """What a baseline gives: scores (examples, labels), or texts."""
    method = methods.configure(run.method)
    assert isinstance(method, ConfiguredBaseline)  # noqa: S101  (its run has no model)
    train = context.caches.parts(run).train
    return method.fit(train, len(dataset.labels), run.seed)(examples)


def _restore_and_encode(
    run: Run,
    dataset: Dataset,
    examples: Sequence[Example],
    context: StudyContext,
    weights: bytes,
    precision: Literal["fp32", "bf16"],
) -> tuple[PreparedModel, Encoded]:
    source = context.source(run.model)
    about = TaskSignature(dataset.kind, dataset.labels, dataset.languages)
    ours = restore_run(run, about, source, weights, precision)
    return ours, context.caches.encode(list(examples), ours.loaded, source, ours.max_length)
