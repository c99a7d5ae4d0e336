"""Keeps the trained weights of a study within ``protocol.keep_weights`` while it runs."""

from __future__ import annotations

from paretune.analysis.cells import group_into_cells
from paretune.analysis.pareto.recommend import recommend
from paretune.analysis.run_selection import best_runs_fit, select_weights_to_drop, weight_bytes
from paretune.store import Store
from paretune.study import Study


def drop_excess_weights(study: Study, store: Store) -> list[str]:
    """Drop weights that exceed the study's budget; the ids of the runs that lost theirs.

    Predictions, scores and all else of these runs stay; ``export --train-again`` makes the weights
    again.
    """
    budget = study.protocol.keep_weights
    if store.sum_weight_bytes(study.study_hash) <= budget:
        return []
    dropped = store.list_dropped_runs()
    records = store.load_records(study.study_hash)
    with_weights = [r for r in records if weight_bytes(r) and r.run_id not in dropped]
    cells = group_into_cells(study, records)
    recommended = set()
    if not best_runs_fit(with_weights, cells, budget):
        records = store.load_records(study.study_hash, predictions=True)
        scored_cells = group_into_cells(study, records)
        for task in study.tasks:
            advice = recommend([cell for cell in scored_cells if cell.task == task.key])
            for costed in (advice.chosen, advice.best):
                if costed is not None:
                    cell = costed.cell
                    recommended.add((cell.task, cell.model, cell.method))
    excess = select_weights_to_drop(with_weights, cells, budget, recommended)
    return store.drop_weights(study.study_hash, [record.run_id for record in excess])
