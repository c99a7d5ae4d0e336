"""Before a study starts on this machine: its device and precision, its audit, its runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from paretune import metrics
from paretune.data.checks.audit import audit
from paretune.data.finding import Finding
from paretune.data.outer_design import choose_outer_design
from paretune.errors import DataError, ModelError
from paretune.measuring.auto_precision import Precision, resolve_auto_precision
from paretune.planning.context import NO_MODEL, StudyContext
from paretune.planning.expand import (
    PlannedRun,
    expand_study,
    find_possible_run_ids,
)
from paretune.planning.predicted_cost import CostPredictor
from paretune.planning.readouts import find_refused_cells
from paretune.planning.worker_count import MEMORY_PREFIX, worker_bytes
from paretune.store import Record, Store
from paretune.study import Generation, ModelSpec, Run, Study, TaskSpec
from paretune.terminal.plural import pluralise
from paretune.training.evaluation.evaluator import OptionalMetrics


def make_context(store: Store | None, device: str, *, offline: bool = True) -> StudyContext:
    """The study's context on this machine."""
    context = StudyContext(offline=offline)
    use_store(context, store, device)
    return context


def use_store(context: StudyContext, store: Store | None, device: str) -> None:
    """Let a context keep in the store what is decided once, and read it there."""
    context.auto_precision = make_precision_resolver(store, device)
    context.store = store


def make_precision_resolver(store: Store | None, device: str) -> Callable[[int | None], Precision]:
    """What ``precision: auto`` means for a model of some width, decided once for each store.

    So a store that is continued on another machine computes as it did before.
    """
    prefix = f"precision/{device.split(':')[0]}"

    def resolve(width: int | None) -> Precision:
        key = f"{prefix}/{width}"
        precision = None if store is None else store.get_setting(key)
        if precision is None:
            precision = resolve_auto_precision(device, width).precision
            if store is not None and store.is_writable:
                precision = store.set_default_setting(key, precision)
        return "bf16" if precision == "bf16" else "fp32"

    return resolve


def check_optional_metrics(
    tasks: Iterable[tuple[TaskSpec, Generation | None]], context: StudyContext
) -> None:
    """Check that what the metrics need is there, before anything is trained for them.

    Args:
        tasks: each with how texts are generated on it, which names further metrics.

    Raises:
        MissingDependencyError: NLTK, its data, WordNet or what a task's own metric needs is
            missing, or lacks the language.
        ModelError: the encoder of BERTScore is missing.
    """
    distinct = {(task.model_dump_json(), repr(own)): (task, own) for task, own in tasks}
    for task, generation in distinct.values():
        dataset = context.dataset(task)
        require = metrics.get(dataset.metric).require
        if require is not None:
            require()
        if generation is None or not generation.metrics:
            continue
        if generation.bertscore_model is not None:
            # May fetch it, which a run never does.
            context.source(ModelSpec(name=generation.bertscore_model))
        if dataset.objective.generates:
            OptionalMetrics(generation, dataset.language or "", context.caches)


def check_models(runs: Iterable[Run], context: StudyContext) -> None:
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
            dataset = context.dataset(run.task)
            context.caches.outline(run.model, dataset, readout=run.readout)
        except ModelError as error:
            errors.setdefault(str(error), error)
    if len(errors) > 1:
        lines = "\n".join(f"  {message}" for message in errors)
        raise ModelError(f"{len(errors)} models cannot be used:\n{lines}")
    for only in errors.values():
        raise only


def check_splits(runs: Iterable[Run], context: StudyContext) -> None:
    """Cut the rows of each task as the runs will, so that none finds later that it cannot.

    Raises:
        DataError: a part would be empty.
    """
    for run in {(r.task.key, r.outer, r.split_seed, r.selection): r for r in runs}.values():
        context.caches.parts(run)


def audit_study(study: Study, context: StudyContext) -> Iterator[Finding]:
    """Every finding in the study's data.

    Raises:
        DataError: after the last finding, if any is an error.
    """
    errors = 0
    for task in study.tasks:
        dataset = context.dataset(task)
        design = choose_outer_design(study.protocol, task, dataset)
        for finding in audit(dataset, study.checks, design):
            errors += finding.severity == "error"
            yield finding
    if errors:
        raise DataError(
            f"{pluralise(errors, 'error')} in the data, listed above.",
            remedy="Fix them and rerun.",
        )


def require_sound_data(study: Study, context: StudyContext) -> None:
    """Audit a study's data as :func:`audit_study` does, where nobody lists its findings.

    Raises:
        DataError: naming every error in the data.
    """
    errors: list[str] = []
    try:
        for finding in audit_study(study, context):
            if finding.severity == "error":
                errors.append(str(finding))
    except DataError as error:
        if not errors:
            raise
        raise DataError("\n".join(errors), remedy=error.remedy) from None


def find_impossible_cells(study: Study, context: StudyContext) -> list[Finding]:
    """A warning for each method that cannot train on a model; the study runs without such cells.

    Raises:
        MethodError: no method can train on any model.
    """
    return [
        Finding("warning", "not-possible", error.where, f"is not run: {error.what}", error.remedy)
        for error in find_refused_cells(study, context)
    ]


def add_missing_runs(
    study: Study,
    context: StudyContext,
    store: Store,
    predictor: CostPredictor | None = None,
    expand: Callable[[Study, StudyContext, Sequence[Record]], list[PlannedRun]] = expand_study,
) -> int:
    """Add the runs that the study asks for and the store does not have; return how many are new.

    Args:
        predictor: predicts the memory that each needs, from what has ended so far.
        expand: which runs; :func:`paretune.search.race.plan_wanted_runs` races.
    """
    # With data and model where they are now: a moved study was stored with other paths.
    records = [
        replace(record, run=study.relocate(record.run))
        for record in store.load_records(study.study_hash, predictions=True)
    ]
    if predictor is not None:
        predictor.fit(records)  # before `expand`, which may ask how long runs take
    planned = expand(study, context, records)
    if predictor is not None:
        ended = {record.run_id for record in records}
        to_train = [p for p in planned if p.run_id not in ended and p.run.stage != "cost"]
        needs = {p.run_id: worker_bytes(predictor.predict_peak_bytes(p.run)) for p in to_train}
        settings = {f"{MEMORY_PREFIX}{key}": str(size) for key, size in needs.items()}
        store.set_settings(settings)
    return store.add_runs(study.study_hash, [(p.run_id, p.run) for p in planned])


def leave_out_stale_runs(study: Study, context: StudyContext, store: Store) -> int:
    """Leave out the study's runs of other data, models or code than now; return their number."""
    # A search reads the answers of its trials.
    records = store.load_records(
        study.study_hash, predictions=any(m.found_by_search for m in study.methods)
    )
    possible = find_possible_run_ids(study, replace(context, shard=None), records)
    return store.leave_out(study.study_hash, possible)
