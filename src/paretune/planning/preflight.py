"""What is checked of a prepared study before it trains."""

from __future__ import annotations

from collections.abc import Iterable

from paretune import metrics
from paretune.data.example import Dataset
from paretune.errors import ModelError
from paretune.planning.prepare import find_source
from paretune.study import NO_MODEL, Generation, ModelSpec, Run
from paretune.training.caches import ProcessCache
from paretune.training.evaluation.evaluator import OptionalMetrics


def check_optional_metrics(
    datasets: Iterable[Dataset],
    generation: Generation,
    caches: ProcessCache,
    *,
    offline: bool = True,
) -> None:
    """Check that what the metrics need is there, before anything is trained for them.

    Args:
        generation: names further metrics of texts that are generated.
        offline: do not fetch the encoder of BERTScore, which a run never does.

    Raises:
        MissingDependencyError: NLTK, its data, WordNet or what a task's own metric needs is
            missing, or lacks the language.
        ModelError: the encoder of BERTScore is missing.
    """
    for dataset in datasets:
        require = metrics.get(dataset.metric).require
        if require is not None:
            require()
        if not generation.metrics:
            continue
        if generation.bertscore_model is not None:
            find_source(ModelSpec(name=generation.bertscore_model), caches, offline=offline)
        if dataset.objective.generates:
            OptionalMetrics(generation, dataset.language or "", caches)


def check_models(runs: Iterable[Run], caches: ProcessCache) -> None:
    """Open the model of every run without its weights, so that none is found unusable later.

    Raises:
        ModelError: naming each model that cannot be used.
    """
    distinct = {
        (run.model.model_dump_json(), run.task.model_dump_json(), run.readout): run for run in runs
    }
    errors: dict[str, ModelError] = {}
    for run in distinct.values():
        if run.model == NO_MODEL:
            continue
        try:
            caches.outline(run.model, caches.dataset(run.task), readout=run.readout)
        except ModelError as error:
            errors.setdefault(str(error), error)
    if len(errors) > 1:
        lines = "\n".join(f"  {message}" for message in errors)
        raise ModelError(f"{len(errors)} models cannot be used:\n{lines}")
    for only in errors.values():
        raise only


def check_splits(runs: Iterable[Run], caches: ProcessCache) -> None:
    """Cut the rows of each task as the runs will, so that none finds later that it cannot.

    Raises:
        DataError: a part would be empty.
    """
    for run in {(r.task.key, r.outer, r.split_seed, r.selection): r for r in runs}.values():
        caches.parts(run)
