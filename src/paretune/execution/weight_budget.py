"""Keeps the trained weights of a study within ``protocol.keep_weights`` while it runs."""

from __future__ import annotations

from paretune.analysis.cells import group_into_cells
from paretune.analysis.pareto.recommend import recommend
from paretune.analysis.weight_retention import best_runs_fit, select_weights_to_drop, weight_bytes
from paretune.store import Store
from paretune.study import Study


def drop_excess_weights(study: Study, store: Store) -> list[str]:
    """Drop weights that the study's budget does not hold; the ids of the runs that lost theirs.

    Answers, scores and all else of these runs stay; ``export --train-again`` trains them once more.
    """
    budget = study.protocol.keep_weights
    if store.sum_weight_bytes(study.study_hash) <= budget:
        return []
    dropped = store.list_dropped_runs()
    records = store.load_records(study.study_hash)
    held = [r for r in records if weight_bytes(r) and r.run_id not in dropped]
    cells = group_into_cells(study, records)
    recommended = set()
    if not best_runs_fit(held, cells, budget):
        answered = group_into_cells(study, store.load_records(study.study_hash, predictions=True))
        for task in study.tasks:
            found = recommend([cell for cell in answered if cell.task == task.key])
            taken = [c.cell for c in (found.chosen, found.best) if c is not None]
            recommended |= {(cell.task, cell.model, cell.method) for cell in taken}
    excess = select_weights_to_drop(held, cells, budget, recommended)
    return store.drop_weights(study.study_hash, [record.run_id for record in excess])
