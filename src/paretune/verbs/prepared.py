"""A study made ready to be executed: checked and audited, its first runs in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.study import Study
from paretune.verbs import study_input

if TYPE_CHECKING:
    from paretune.data.finding import Finding
    from paretune.execution.executor import StudyCallbacks
    from paretune.execution.progress.observer import Observer
    from paretune.planning.context import StudyContext
    from paretune.planning.expand import PlannedRun
    from paretune.planning.predicted_cost import CostPredictor
    from paretune.planning.shard import Shard
    from paretune.store import Record, Store
    from paretune.study import Run

Expand = Callable[["Study", "StudyContext", "Sequence[Record]"], "list[PlannedRun]"]
"""Which runs a study asks for, given what has ended."""


@dataclass(frozen=True)
class PreparedStudy:
    """A study in its open store.

    Attributes:
        coming: runs that have not ended, with those whose rate is not chosen yet.
        planned: how many runs the study will have in all.
    """

    study: Study
    store: Store
    context: StudyContext
    predictor: CostPredictor
    observer: Observer
    coming: Sequence[Run]
    planned: int

    def add_runs(self, *, expand: Expand | None = None) -> int:
        """Add the runs that the records make possible; return how many are new.

        Args:
            expand: which runs; as the study's race wants them by default.
        """
        from paretune.planning import preflight
        from paretune.search import race

        return preflight.add_missing_runs(
            self.study,
            self.context,
            self.store,
            self.predictor,
            expand or race.plan_wanted_runs,
        )

    def callbacks(
        self,
        *,
        expand: Expand | None = None,
        deadline: float | None = None,
    ) -> StudyCallbacks:
        """For an executor; arguments as of :meth:`add_runs`, and when the study is to end."""
        from paretune.execution.executor import StudyCallbacks
        from paretune.execution.weight_budget import drop_excess_weights

        # How many a race or a budget will train is not known beforehand.
        shard = self.context.shard
        is_known = deadline is None and (self.study.protocol.race == "off" or shard is not None)

        def drop_weights() -> None:
            if shard is None:  # which runs are best is known after the merge
                drop_excess_weights(self.study, self.store)

        return StudyCallbacks(
            observer=self.observer,
            add_runs=lambda: self.add_runs(expand=expand),
            after_final_runs=drop_weights,
            planned_runs=self.planned if is_known else 0,
            deadline=deadline,
        )


@contextmanager
def prepare_study(
    study: Study | Path | str,
    store: Path | str | None,
    observer: Observer,
    *,
    device: str = "cpu",
    offline: bool = True,
    retry: bool = False,
    measure_speed: bool = False,
    shard: Shard | None = None,
) -> Iterator[PreparedStudy]:
    """Check and audit a study, and open its store.

    Args:
        store: folder of the results; ``studies/NAME`` by default.
        device: whose precision ``auto`` means, and whose speed is predicted.
        offline: fetch nothing.
        retry: make runs todo again that failed, did not fit in memory, or have damaged files.
        measure_speed: of matrix products, so that time is predicted before a run has ended.
        shard: prepare the runs of this share alone.

    Raises:
        ParetuneError: the study, its data, a model or a method cannot be used.
    """
    text = study_input.study_file_text(study)
    study = study_input.resolve_study(study)  # before torch is imported
    from paretune.measuring.speed import MachineSpeed
    from paretune.planning import preflight
    from paretune.planning.context import StudyContext
    from paretune.planning.predicted_cost import CostPredictor
    from paretune.search import race
    from paretune.store import Store
    from paretune.verbs.stored_findings import find_damaged_trials, save_findings
    from paretune.verbs.trained_data import save_trained_data

    folder = study_input.store_folder(study, store)
    context = StudyContext(offline=offline, shard=shard)
    findings = _audit(study, context, observer)  # before a folder is made for results
    with Store.open(folder, create=True) as opened:
        preflight.use_store(context, opened, device)
        preflight.check_optional_metrics(
            [(task, study.generation) for task in study.tasks], context
        )
        if retry and (again := opened.retry(study.study_hash)):
            observer.note(f"Runs that are tried again: {again}.")
        records = study_input.load_records(study, opened)
        ready, waiting = race.plan_runs(study, context, records)
        ended = {record.run_id for record in records}
        by_id = {one.run_id: one.run for one in ready}  # several searches may share a trial
        coming = [*(run for run_id, run in by_id.items() if run_id not in ended), *waiting]
        preflight.check_splits(coming, context)
        preflight.check_models(coming, context)
        for finding in (impossible := preflight.find_impossible_cells(study, context)):
            observer.note(f"{finding.severity}: {finding}")
        _note_if_edited(study, opened, observer)
        opened.save_study(study.study_hash, study.study, text, study.canonical_form())
        save_findings(opened, study.study_hash, [*findings, *impossible])
        save_trained_data(opened, study, context)
        if others := preflight.leave_out_stale_runs(study, context, opened):
            observer.note(
                f"Runs left out: {others}. Their data, model or code has changed since; "
                "they stay in the store, and count again if it is changed back."
            )
        for finding in find_damaged_trials(opened, records):
            observer.note(f"{finding.severity}: {finding}")
        speed = MachineSpeed.measure() if measure_speed else None
        yield PreparedStudy(
            study=study,
            store=opened,
            context=context,
            predictor=CostPredictor(context, speed, records, device),
            observer=observer,
            coming=coming,
            planned=len(by_id) + len(waiting),
        )


def _audit(study: Study, context: StudyContext, observer: Observer) -> list[Finding]:
    """All findings; errors and warnings are passed on, notes are counted (``check`` shows them)."""
    from paretune.planning import preflight

    findings: list[Finding] = []
    try:
        for finding in preflight.audit_study(study, context):
            findings.append(finding)
            if finding.severity != "note":
                observer.note(f"{finding.severity}: {finding}")
    finally:
        notes = sum(finding.severity == "note" for finding in findings)
        if notes:
            observer.note(f"Notes on the data: {notes}; `paretune check` shows them.")
    return findings


def _note_if_edited(study: Study, store: Store, observer: Observer) -> None:
    studies = store.list_studies()
    if any(row.study_hash == study.study_hash for row in studies):
        return
    if any(row.name == study.study for row in studies):
        observer.note(
            "The study has changed since it last ran here: runs that it still needs are "
            "reused; the "
            "others stay in the store and are not in its report."
        )
