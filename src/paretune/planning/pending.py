"""All runs of a study, with those whose rate is not chosen yet: for ``plan`` and time left."""

from __future__ import annotations

from collections.abc import Sequence

from paretune.analysis.cells import methods_with_probe
from paretune.planning.context import StudyContext, choose_learning_rates
from paretune.planning.expand import PlannedRun, expand_study
from paretune.planning.presets import load_preset
from paretune.store.record import Record
from paretune.study import Run, Study


def plan_pending_runs(
    study: Study, context: StudyContext, records: Sequence[Record]
) -> tuple[list[PlannedRun], list[Run]]:
    """The runs that exist or can start now, and final runs that wait for their rate.

    A waiting run has the middle one of the rates on trial, which is enough to predict its cost.
    """
    ready = expand_study(study, context, records)
    if load_preset(study.protocol.preset) is not None:
        return ready, []
    final = {p.run.cell for p in ready if p.run.stage == "final"}
    ended = {r.run_id for r in records}
    waiting: list[Run] = []
    tune = {p.run.cell: p.run for p in ready if p.run.stage == "tune"}
    for task in study.tasks:
        for model in study.models:
            for method in methods_with_probe(study, task):
                cell = (task.key, model.key, method.key)
                if cell in final or cell not in tune:
                    continue
                trials = [p for p in ready if p.run.cell == cell and p.run.stage == "tune"]
                if all(p.run_id in ended for p in trials):
                    continue  # every trial failed: nothing will follow
                own_rates = context.method(method).learning_rates
                assert own_rates is not None  # noqa: S101  (it has trials)
                rates = choose_learning_rates(method, own_rates, study.protocol.trials)
                waiting += [
                    tune[cell].model_copy(
                        update={
                            "stage": "final",
                            "seed": s,
                            "learning_rate": rates[len(rates) // 2],
                        }
                    )
                    for s in study.protocol.seeds
                ]
    return ready, waiting
