"""All runs of a study, with those whose rate is not chosen yet: for ``plan`` and time left."""

from __future__ import annotations

from collections.abc import Sequence

from paretune.planning.context import StudyContext
from paretune.planning.expand import PlannedRun, expand_study
from paretune.store.record import Record
from paretune.study import OuterFold, Run, Study
from paretune.study.presets import load_preset
from paretune.study.run import is_trial

CellKey = tuple[str, str, str]


def plan_pending_runs(
    study: Study, context: StudyContext, records: Sequence[Record]
) -> tuple[list[PlannedRun], list[Run]]:
    """The runs that exist or can start now, and final runs that wait for their rate.

    A waiting run has the middle one of the rates on trial, which is enough to predict its cost.
    """
    ready = expand_study(study, context, records)
    if load_preset(study.protocol.preset) is not None:
        return ready, []
    final = {(p.run.cell, p.run.outer) for p in ready if p.run.stage == "final"}
    ended = {record.run_id for record in records}
    tuned: dict[tuple[CellKey, OuterFold | None], list[PlannedRun]] = {}
    for planned in ready:
        if planned.run.stage == "tune":
            tuned.setdefault((planned.run.cell, planned.run.outer), []).append(planned)
    waiting: list[Run] = []
    for (cell, outer), trials in tuned.items():
        if is_trial(trials[0].run):
            continue  # its search says what follows
        if (cell, outer) in final or all(trial.run_id in ended for trial in trials):
            continue  # without a final run, every trial failed: nothing will follow
        rates = list(dict.fromkeys(trial.run.learning_rate for trial in trials))
        seeds = study.protocol.seeds
        waiting += [
            trials[0].run.model_copy(
                update={"stage": "final", "seed": seed, "learning_rate": rates[len(rates) // 2]}
            )
            for seed in (seeds if outer is None else (seeds[outer.position],))
        ]
    return ready, waiting
