"""Baselines that fit on texts or columns, without steps, learning rate or model."""

from __future__ import annotations

import time
from dataclasses import replace

from paretune.measuring.machine import describe_environment
from paretune.methods import ConfiguredBaseline
from paretune.study import Generation, Run
from paretune.training.caches import ProcessCache
from paretune.training.evaluation.optional_metrics import OptionalMetrics
from paretune.training.runs.job import Outcome
from paretune.training.runs.slot import write_scores


def fit_baseline(run: Run, method: ConfiguredBaseline, caches: ProcessCache) -> Outcome:
    """Fit a baseline on the training part, and score it."""
    dataset, parts = caches.dataset(run.task), caches.parts(run)
    objective = dataset.objective
    started = time.monotonic()
    scale = objective.fit_target(parts.train)
    predict = method.fit(parts.train, len(dataset.labels), run.seed)
    outcome = Outcome(result={"notes": [], "steps": 0, "curve": [], "truncated": {}})
    fitted = time.monotonic()
    predictions = {}
    for part, examples in (("selection", parts.selection), ("test", parts.test)):
        if not examples:
            continue
        predictions[part] = objective.predict(predict(examples), examples, scale)
        if objective.generates:
            generation = run.generation or Generation()
            optional = OptionalMetrics(generation, dataset.languages[1], caches)
            texts, references = predictions[part].prediction, objective.references(examples)
            segment = optional.score_segments([*map(str, texts)], [*map(str, references)])
            predictions[part] = replace(predictions[part], segment=segment)
    write_scores(outcome, run, predictions, parts, dataset, diverged=False)
    seconds = {"train": fitted - started, "evaluation": time.monotonic() - fitted}
    outcome.measured = {"wall_seconds": seconds, "environment": describe_environment("cpu")}
    return outcome
