"""``run``: train what is missing and measure it; what is done stays done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.study import Study
from paretune.verbs import study_input

if TYPE_CHECKING:
    from paretune.data.finding import Finding
    from paretune.execution.executor import StudySummary
    from paretune.execution.progress.observer import Observer
    from paretune.planning.context import StudyContext
    from paretune.store import Store


@dataclass(frozen=True)
class RunResult:
    """A study that has come to its end.

    ``folder`` holds the results; ``summary`` says how many runs ended and how, and which stopped
    with an unexpected error (``summary.failed``).
    """

    study: Study
    folder: Path
    summary: StudySummary


def run(
    study: Study | Path | str,
    *,
    store: Path | str | None = None,
    workers: int | None = None,
    threads: int = 1,
    device: str = "auto",
    online: bool = False,
    retry: bool = False,
    fleet: int | None = None,
    observer: Observer | None = None,
) -> RunResult:
    """Run a study in worker processes, or go on with it, until none of its runs is left.

    Args:
        study: a study, its file, or the name of a shipped one.
        store: folder of the results; ``studies/NAME`` by default.
        workers: processes that train at once; as many as cores and memory allow by default.
        threads: of each worker.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` ...
        online: models and data may be fetched from the hub, before the workers start.
        retry: try runs again that stopped with an error.
        fleet: at most so many runs of one method train together in one worker, where batches can be
            shared and memory allows; 1: every run alone. By default 8 where that is faster, 1 on a
            GPU.
        observer: told how it goes on; nobody by default.

    Returns:
        Where the results are and how the runs ended; a run that stopped with an error is told
        there, and raises nothing.

    Raises:
        ParetuneError: the study, its data, a model or a method cannot be used.
        KeyboardInterrupt: after the workers gave their runs back; the same call continues.
    """
    given, text = (
        study_input.resolve_study(study),
        study_input.study_file_text(study),
    )  # before torch is imported
    from paretune.execution.executor import StudyCallbacks
    from paretune.execution.local import LocalExecutor
    from paretune.execution.progress.observer import SilentObserver
    from paretune.execution.weight_budget import drop_excess_weights
    from paretune.measuring.devices import resolve_device
    from paretune.planning import preflight
    from paretune.planning.context import StudyContext
    from paretune.planning.pending import plan_pending_runs
    from paretune.planning.predicted_cost import CostPredictor
    from paretune.planning.worker_count import WorkerCount, choose_worker_count, worker_bytes
    from paretune.store import Store
    from paretune.verbs.stored_findings import find_lost_runs, save_findings
    from paretune.verbs.worker_sentence import explain_worker_count

    folder = study_input.store_folder(given, store)
    device = resolve_device(device)
    observer = observer or SilentObserver()
    context = StudyContext(offline=not online)
    found = _audit(given, context, observer)  # before a folder is made for results
    with Store.open(folder, create=True) as opened:
        context.auto_precision = preflight.make_precision_resolver(opened, device)
        preflight.check_optional_metrics(given, context)
        records = study_input.load_records(given, opened)
        ready, waiting = plan_pending_runs(given, context, records)
        ended = {r.run_id for r in records if not (retry and r.outcome == "error")}
        coming = [*(one.run for one in ready if one.run_id not in ended), *waiting]
        preflight.check_models(coming, context)
        _note_if_edited(given, opened, observer)
        opened.save_study(given.study_hash, given.study, text, given.canonical_form())
        save_findings(opened, given.study_hash, found)
        if others := preflight.leave_out_stale_runs(given, context, opened):
            observer.note(
                f"Runs left out: {others}. They were made with data, a model or code that have "
                "changed since; they stay in the store, and are back if those are."
            )
        for lost in find_lost_runs(opened, given.study_hash):
            observer.note(f"{lost.severity}: {lost}")
        if retry:
            opened.retry(given.study_hash)
        planned = len(ready) + len(waiting)
        predictor = CostPredictor(context, {}, records, device)
        needs = [
            worker_bytes(predictor.predict_peak_bytes(run)) for run in coming if run.stage != "cost"
        ]
        employed = (
            WorkerCount(workers, workers)
            if workers
            else choose_worker_count(needs, device, threads)
        )
        observer.note(
            f"{planned} runs, {employed.count} workers with {threads} thread(s) on {device} in "
            f"{context.describe_precisions(given)}; results in {folder}"
        )
        if said := explain_worker_count(employed):
            observer.note(said)
        executor = LocalExecutor(
            workers=employed.count,
            threads=threads,
            device=device,
            fleet=fleet,
            memory_bytes=employed.memory_bytes,
            keep_bytes=given.protocol.keep_weights,
            cost_seconds=given.protocol.cost_seconds,
        )
        callbacks = StudyCallbacks(
            observer=observer,
            add_runs=lambda: preflight.add_missing_runs(given, context, opened, predictor),
            after_final_runs=lambda: drop_excess_weights(given, opened),
            planned_runs=planned,
        )
        summary = executor.execute(opened, given.study_hash, callbacks)
    return RunResult(given, folder, summary)


def _audit(study: Study, context: StudyContext, observer: Observer) -> list[Finding]:
    """All findings; errors and warnings are told, notes are counted (``check`` shows them)."""
    from paretune.planning import preflight

    found: list[Finding] = []
    try:
        for finding in preflight.audit_study(study, context):
            found.append(finding)
            if finding.severity != "note":
                observer.note(f"{finding.severity}: {finding}")
    finally:
        notes = sum(finding.severity == "note" for finding in found)
        if notes:
            observer.note(f"Notes on the data: {notes}; `paretune check` shows them.")
    return found


def _note_if_edited(study: Study, store: Store, observer: Observer) -> None:
    known = store.list_studies()
    if any(row.study_hash == study.study_hash for row in known):
        return
    if any(row.name == study.study for row in known):
        observer.note(
            "The study has changed since it last ran here: runs that it still asks for are taken "
            "over, the others stay in the store and out of its report."
        )
