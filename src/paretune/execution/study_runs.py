"""The runs of a study in its store: which are added, and whose weights are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from paretune.analysis.run_selection import weight_bytes
from paretune.execution.memory_budget import MEMORY_PREFIX
from paretune.store import Record, Store
from paretune.study import Study

if TYPE_CHECKING:
    from paretune.planning.predicted_cost import CostPredictor
    from paretune.planning.prepare import PlannedRun, PreparedStudy

    SelectExcess = Callable[[Study, Sequence[Record], Sequence[Record]], Sequence[Record]]
    Expand = Callable[[PreparedStudy, Sequence[Record]], list[PlannedRun]]


def add_missing_runs(
    prepared: PreparedStudy,
    store: Store,
    predictor: CostPredictor | None = None,
    expand: Expand | None = None,
) -> int:
    """Add the runs that the study asks for and the store does not have; return how many are new.

    Args:
        predictor: predicts the memory that each needs, from what has ended so far.
        expand: which runs; by default all.
    """
    from paretune.planning.expand import expand_study, hold_back_folds, put_long_runs_first

    study = prepared.study
    # Data and model are where they are now: a moved study was stored with other paths.
    records = [
        replace(record, run=study.relocate(record.run))
        for record in store.load_records(study.study_hash, predictions=True)
    ]
    if predictor is not None:
        predictor.fit(records)  # before `expand`, which may ask how long runs take
    planned = (expand or expand_study)(prepared, records)
    if study.protocol.preset == "passes":
        planned = hold_back_folds(planned, records, study.protocol.seeds)
    if predictor is not None:
        ended = {record.run_id for record in records}
        to_train = [p for p in planned if p.run_id not in ended and p.run.stage != "cost"]
        costs = {p.run_id: predictor.predict(p.run) for p in to_train}
        sizes = {f"{MEMORY_PREFIX}{key}": str(cost.worker_bytes) for key, cost in costs.items()}
        store.set_settings(sizes)
        if study.protocol.preset == "passes":
            seconds = {key: cost.seconds or 0.0 for key, cost in costs.items()}
            planned = put_long_runs_first(planned, seconds, study.protocol.seeds)
    return store.add_runs(study.study_hash, [(p.run_id, p.run) for p in planned])


def drop_excess_weights(study: Study, store: Store, select: SelectExcess) -> list[str]:
    """Drop weights that exceed the study's budget; the ids of the runs that lost theirs.

    Predictions, scores and all else of these runs stay; ``export --train-again`` makes the weights
    again.

    Args:
        select: of all records and of those with weights, the ones that lose theirs; asked only
            where the budget is exceeded.
    """
    if store.sum_weight_bytes(study.study_hash) <= study.protocol.keep_weights:
        return []
    dropped = store.list_dropped_runs()
    records = store.load_records(study.study_hash, predictions=True)
    with_weights = [r for r in records if weight_bytes(r) and r.run_id not in dropped]
    excess = select(study, records, with_weights)
    return store.drop_weights(study.study_hash, [record.run_id for record in excess])
