"""Baselines that fit on texts or columns: no steps, no learning rate, no model."""

from __future__ import annotations

import time

from paretune.measuring.environment import describe_environment
from paretune.methods import ConfiguredBaseline
from paretune.objectives.target_scale import fit_target_scale
from paretune.study import Generation, Run
from paretune.training.answering import from_scores, from_texts, references
from paretune.training.caches import ProcessCache
from paretune.training.evaluation.optional_metrics import OptionalMetrics
from paretune.training.job import Outcome
from paretune.training.outcome import write_scores


def fit_baseline(run: Run, method: ConfiguredBaseline, caches: ProcessCache) -> Outcome:
    """Fit a baseline on the training part, and score it."""
    dataset, parts = caches.dataset(run.task), caches.parts(run)
    started = time.monotonic()
    scale = fit_target_scale(parts.train)
    answer = method.fit(parts.train, len(dataset.labels), run.seed)
    outcome = Outcome(result={"notes": [], "steps": 0, "curve": [], "truncated": {}})
    fitted = time.monotonic()
    predictions = {}
    for part, examples in (("selection", parts.selection), ("test", parts.test)):
        if examples and dataset.kind == "translation":
            generation = run.generation or Generation()
            optional = OptionalMetrics(generation, dataset.languages[1], caches)
            texts = answer(examples)
            segments = optional.score_segments(texts, references(examples))
            predictions[part] = from_texts(texts, None, segments)
        elif examples:
            predictions[part] = from_scores(answer(examples), examples, scale)
    write_scores(outcome, predictions, parts, dataset, diverged=False)
    seconds = {"train": fitted - started, "evaluation": time.monotonic() - fitted}
    outcome.measured = {"wall_seconds": seconds, "environment": describe_environment("cpu")}
    return outcome
