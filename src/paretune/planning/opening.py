"""Before a study starts on this machine: its device and precision, its audit, its runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from paretune.data.audit import audit
from paretune.data.finding import Finding
from paretune.errors import DataError, ModelError
from paretune.measuring.auto_precision import Precision, auto_precision
from paretune.planning.context import NO_MODEL, Context
from paretune.planning.expand import askable, expand
from paretune.planning.predict import Predictor
from paretune.planning.workers import NEEDS, need
from paretune.store import Store
from paretune.study import ModelSpec, Run, Study
from paretune.training.beside import Beside


def context(store: Store | None, device: str, *, offline: bool = True) -> Context:
    """The study's context on this machine."""
    return Context(auto_precision=auto_precision_of(store, device), offline=offline)


def auto_precision_of(store: Store | None, device: str) -> Callable[[int | None], Precision]:
    """What ``precision: auto`` means for a model of some width, decided once for each store.

    So a store that is continued on another machine computes as it did before.
    """
    key = f"precision/{device.split(':')[0]}"
    # Stores of paretune 0.1.0 hold one precision for all models.
    whole = store.setting(key) if store is not None else None

    def decided(width: int | None) -> Precision:
        own = f"{key}/{width}"
        found = whole or (store.setting(own) if store is not None else None)
        if found is None:
            found = auto_precision(device, width).precision
            if store is not None and store.writable:
                found = store.setting_once(own, found)
        return "bf16" if found == "bf16" else "fp32"

    return decided


def scorers(study: Study, context: Context) -> None:
    """Look for what ``generation.metrics`` needs, before anything is trained for them.

    Raises:
        MissingError: NLTK, its data or WordNet is not here, or does not know the language.
        ModelError: the encoder of BERTScore cannot be had.
    """
    if not study.generation.metrics:
        return
    encoder = study.generation.bertscore_model
    if encoder is not None:
        context.source(ModelSpec(name=encoder))  # may fetch it, which a run never does
    for task in study.tasks:
        if task.target_lang is not None:
            Beside(study.generation, task.target_lang, context.bench)


def open_models(runs: Iterable[Run], context: Context) -> None:
    """Open the model of every run without its weights, so that none is found unusable later.

    Raises:
        ModelError: naming each model that cannot be used.
    """
    pairs = {(run.model.model_dump_json(), run.task.model_dump_json()): run for run in runs}
    found: dict[str, ModelError] = {}
    for run in pairs.values():
        if run.model == NO_MODEL:
            continue
        try:
            context.bench.outline(run.model, context.dataset(run.task))
        except ModelError as error:
            found.setdefault(str(error), error)
    if len(found) > 1:
        listed = "\n".join(f"  {said}" for said in found)
        raise ModelError(f"{len(found)} models cannot be used:\n{listed}")
    for only in found.values():
        raise only


def audited(study: Study, context: Context) -> Iterator[Finding]:
    """Every finding in the study's data.

    Raises:
        DataError: after the last finding, if any is an error.
    """
    errors = 0
    for task in study.tasks:
        for finding in audit(context.dataset(task), study.checks):
            errors += finding.severity == "error"
            yield finding
    if errors:
        raise DataError(
            f"{errors} error{'s' * (errors > 1)} in the data, listed above.",
            remedy="Mend them, then run again.",
        )


def add_missing(
    study: Study, context: Context, store: Store, predictor: Predictor | None = None
) -> int:
    """Add the runs that the study asks for and the store does not have; how many are new.

    ``predictor`` says what memory each needs, from what has ended so far.
    """
    # With data and model where they lie now: a moved study was stored with other paths.
    records = [
        replace(record, run=study.placed(record.run))
        for record in store.records(study.study_hash, predictions=True)
    ]
    planned = expand(study, context, records)
    if predictor is not None:
        predictor.learn(records)
        ended = {record.run_id for record in records}
        coming = [one for one in planned if one.run_id not in ended and one.run.stage != "cost"]
        needs = {one.run_id: need(predictor.peak_bytes(one.run)) for one in coming}
        store.set_settings({f"{NEEDS}{run_id}": str(size) for run_id, size in needs.items()})
    return store.add_runs(study.study_hash, [(p.run_id, p.run) for p in planned])


def leave_out_others(study: Study, context: Context, store: Store) -> int:
    """Leave out the study's runs of other data, models or code than now; how many there are."""
    return store.leave_out(study.study_hash, askable(study, context))


def matrix_speeds(measured: Mapping[str, float]) -> dict[str, float]:
    """Gigaflops of one worker by precision, from what ``machine.speed`` measured.

    Where bf16 is not native it is emulated by products in fp32.
    """
    fp32 = measured["fp32_one_thread"]
    return {"fp32": fp32, "bf16": measured.get("bf16_one_thread", fp32)}
