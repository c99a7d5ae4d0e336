"""Predictions of a trained run for new rows or sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from paretune import methods
from paretune.data.example import Dataset, Example
from paretune.errors import MethodError
from paretune.exporting.restore import TaskSignature, restore_run
from paretune.methods import ConfiguredBaseline
from paretune.objectives.encoding import Encoded
from paretune.study import Generation, Run
from paretune.training.caches import ProcessCache
from paretune.training.evaluation.predict import evaluate_alone, generate
from paretune.training.forward.micro_batch import Compute
from paretune.training.forward.select import forward_for
from paretune.training.prepare import PreparedModel


def predict_labels(
    run: Run,
    dataset: Dataset,
    examples: Sequence[Example],
    caches: ProcessCache,
    weights: bytes | None,
) -> tuple[tuple[int, ...], int]:
    """Labels, computed as when the run was scored.

    Args:
        examples: of the same form; their labels are ignored.
        weights: its trained tensors; None for a baseline, which is fitted again.

    Returns:
        (examples,) indices into the dataset's labels, and how many texts were truncated.

    Raises:
        MethodError: the run answers by texts that it writes.
    """
    if weights is None:
        scores = _fit_and_predict(run, dataset, examples, caches)
        return tuple(int(i) for i in scores.argmax(1)), 0
    compute = Compute.of(run, "cpu")
    prepared, encoded = _restore_and_encode(
        run, dataset, examples, caches, weights, compute.precision
    )
    objective = caches.objective(run)
    if objective.generates:
        raise MethodError(
            "its answers are texts that it writes, which may name no label.",
            where=" x ".join(run.cell),
            remedy="Choose a run whose readout is label_words or head.",
        )
    forward = forward_for(prepared.loaded, prepared.fleet, compute)
    scores = evaluate_alone(forward, encoded, objective.collector)
    return tuple(int(i) for i in scores.argmax(1)), sum(encoded.truncated)


def translate_sentences(
    run: Run,
    dataset: Dataset,
    sources: Sequence[str],
    caches: ProcessCache,
    weights: bytes | None,
) -> tuple[tuple[str, ...], int]:
    """Translations, generated as when the run was scored.

    Args:
        weights: its trained tensors; None for a baseline.

    Returns:
        (examples,) texts, possibly empty, and how many sources were truncated.
    """
    examples = [
        Example(f"source:{i}", ((text, None),), None, f"line {i}")
        for i, text in enumerate(sources, 1)
    ]
    if weights is None:
        return tuple(_fit_and_predict(run, dataset, examples, caches)), 0
    compute = Compute.of(run, "cpu")
    prepared, encoded = _restore_and_encode(
        run, dataset, examples, caches, weights, compute.precision
    )
    texts = generate(
        prepared.loaded, prepared.fleet, compute, encoded, run.generation or Generation()
    )
    return tuple(texts), sum(encoded.truncated)


def _fit_and_predict(
    run: Run, dataset: Dataset, examples: Sequence[Example], caches: ProcessCache
) -> Any:
    """Predictions of a baseline: scores (examples, labels), or texts."""
    method = methods.configure(run.method)
    assert isinstance(method, ConfiguredBaseline)  # noqa: S101  (its run has no model)
    train = caches.parts(run).train
    return method.fit(train, len(dataset.labels), run.seed)(examples)


def _restore_and_encode(
    run: Run,
    dataset: Dataset,
    examples: Sequence[Example],
    caches: ProcessCache,
    weights: bytes,
    precision: Literal["fp32", "bf16"],
) -> tuple[PreparedModel, Encoded]:
    source = caches.source(run.model)
    task = TaskSignature.of(run, dataset)
    prepared = restore_run(run, task, source, weights, precision)
    encode = caches.objective(run).encode
    encoded = caches.encode(list(examples), prepared.loaded, source, prepared.max_length, encode)
    return prepared, encoded
