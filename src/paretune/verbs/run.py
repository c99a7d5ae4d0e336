"""``run``: train what is missing and measure it; what is done stays done."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from paretune.study import Study
from paretune.study.quantities import parse_duration
from paretune.terminal.notebook import html_lines
from paretune.verbs import study_input
from paretune.verbs.executors import ExecutorChoice
from paretune.verbs.workers import WorkerOptions, Workers

if TYPE_CHECKING:
    from paretune.data.finding import Finding
    from paretune.execution.executor import StudySummary
    from paretune.execution.progress.observer import Observer
    from paretune.planning.context import StudyContext
    from paretune.store import Record, Store


@dataclass(frozen=True)
class RunResult:
    """A study all of whose runs have ended.

    ``folder`` holds the results; ``summary`` says how many runs ended and how, and which stopped
    with an unexpected error (``summary.failed``).
    """

    study: Study
    folder: Path
    summary: StudySummary

    def _repr_html_(self) -> str:
        ended = [f"{count} {outcome}" for outcome, count in self.summary.outcomes.items()]
        failed = [f"{one.run.cell}: {one.message}" for one in self.summary.failed]
        text = f"{self.study.study}: {', '.join(ended)}; results in {self.folder}"
        return html_lines([text, *failed])


def run(
    study: Study | Path | str,
    *,
    store: Path | str | None = None,
    retry: bool = False,
    fleet: int | None = None,
    executor: str = "local",
    address: str | None = None,
    budget: str | float | None = None,
    observer: Observer | None = None,
    **options: Unpack[WorkerOptions],
) -> RunResult:
    """Run a study in worker processes, or continue it, until none of its runs is left.

    Args:
        study: a study, its file, or the name of a shipped one.
        store: folder of the results; ``studies/NAME`` by default.
        retry: try runs again that failed or did not fit in memory, and those whose stored files are
            missing or damaged.
        fleet: maximum number of runs of one method that train together in one worker, where batches
            can be shared and memory allows; 1: every run alone. By default 8 where that is faster,
            1 on a GPU.
        executor: ``local``: worker processes of this machine; ``ray``: tasks on a Ray cluster.
        address: of that cluster, ``HOST:PORT``; the one of this machine by default.
        budget: wall-clock time after which to stop, ``"30min"`` or seconds; in place of
            ``protocol.budget``. Runs that tell most per second come first
            (:mod:`paretune.search.budget`), and the next call continues.
        options: ``workers``, ``threads``, ``devices``, ``online`` (:class:`WorkerOptions`); data
            and models are downloaded before the workers start.

    Returns:
        Where the results are and how the runs ended. A run that stopped with an error raises
        nothing; it is in ``summary.failed``.

    Raises:
        ParetuneError: the study, its data, a model or a method cannot be used.
        KeyboardInterrupt: after the workers gave their runs back; the same call continues.
    """
    # Before torch is imported: a typing error costs no seconds.
    choice = ExecutorChoice(executor, address)
    text = study_input.study_file_text(study)
    study = study_input.resolve_study(study)
    seconds = study.protocol.budget if budget is None else parse_duration(budget, "--budget")
    from paretune.execution.executor import StudyCallbacks
    from paretune.execution.progress.observer import SilentObserver
    from paretune.execution.weight_budget import drop_excess_weights
    from paretune.measuring.speed import measure_matmul_speed
    from paretune.planning import preflight
    from paretune.planning.context import StudyContext
    from paretune.planning.predicted_cost import CostPredictor
    from paretune.search import race
    from paretune.search.budget import TimeBudget
    from paretune.store import Store
    from paretune.verbs.memory_fit import check_memory
    from paretune.verbs.stored_findings import (
        find_damaged_trials,
        find_lost_runs,
        save_findings,
    )

    folder = study_input.store_folder(study, store)
    workers = Workers.resolve(**options)
    observer = observer or SilentObserver()
    context = StudyContext(offline=workers.offline)
    if (folder / "study.db").is_file():
        with Store.open(folder) as opened:  # what has ended may determine what is tested
            context.auto_precision = preflight.make_precision_resolver(opened, workers.device)
            records = study_input.load_records(study, opened)
            findings = _audit(study, context, observer, records)
    else:
        findings = _audit(study, context, observer)  # before a folder is made for results
    with Store.open(folder, create=True) as opened:
        context.auto_precision = preflight.make_precision_resolver(opened, workers.device)
        preflight.check_optional_metrics(study, context)
        if retry and (again := opened.retry(study.study_hash)):
            observer.note(f"Runs that are tried again: {again}.")
        records = study_input.load_records(study, opened)
        ready, waiting = race.plan_runs(study, context, records)
        ended = {record.run_id for record in records}
        coming = [*(one.run for one in ready if one.run_id not in ended), *waiting]
        preflight.check_models(coming, context)
        for finding in (impossible := preflight.find_impossible_cells(study, context)):
            observer.note(f"{finding.severity}: {finding}")
        _note_if_edited(study, opened, observer)
        opened.save_study(study.study_hash, study.study, text, study.canonical_form())
        save_findings(opened, study.study_hash, [*findings, *impossible])
        if others := preflight.leave_out_stale_runs(study, context, opened):
            observer.note(
                f"Runs left out: {others}. Their data, model or code has changed since; "
                "they stay in the store, and count again if it is changed back."
            )
        lost = find_lost_runs(opened, study.study_hash)
        for finding in [*lost, *find_damaged_trials(opened, records)]:
            observer.note(f"{finding.severity}: {finding}")
        planned = len(ready) + len(waiting)
        speeds = preflight.select_matmul_speeds(measure_matmul_speed()) if seconds else {}
        predictor = CostPredictor(context, speeds, records, workers.device)
        check_memory(coming, predictor, workers.devices)
        devices = workers.count(coming, predictor)
        observer.note(
            f"{planned} runs, {choice.describe(workers, devices)} in "
            f"{context.describe_precisions(study)}; results in {folder}"
        )
        for sentence in choice.explain(devices):
            observer.note(sentence)
        chosen = choice.make(study, workers, devices, fleet)
        deadline = None if seconds is None else time.monotonic() + seconds
        expand = race.plan_wanted_runs
        if deadline is not None:
            expand = TimeBudget(
                seconds_left=lambda: deadline - time.monotonic(),
                workers=sum(device.count for device in devices),
                predict=lambda run: predictor.predict(run).seconds,
            ).choose
        callbacks = StudyCallbacks(
            observer=observer,
            add_runs=lambda: preflight.add_missing_runs(study, context, opened, predictor, expand),
            after_final_runs=lambda: drop_excess_weights(study, opened),
            # How many a race or a budget will train is not known beforehand.
            planned_runs=planned if seconds is None and study.protocol.race == "off" else 0,
            deadline=deadline,
        )
        summary = chosen.execute(opened, study.study_hash, callbacks)
        if seconds is not None:
            _note_end_of_budget(study, context, opened, observer, seconds)
    return RunResult(study, folder, summary)


def _audit(
    study: Study, context: StudyContext, observer: Observer, records: Sequence[Record] = ()
) -> list[Finding]:
    """All findings; errors and warnings are passed on, notes are counted (``check`` shows them)."""
    from paretune.planning import preflight

    findings: list[Finding] = []
    try:
        for finding in preflight.audit_study(study, context, records):
            findings.append(finding)
            if finding.severity != "note":
                observer.note(f"{finding.severity}: {finding}")
    finally:
        notes = sum(finding.severity == "note" for finding in findings)
        if notes:
            observer.note(f"Notes on the data: {notes}; `paretune check` shows them.")
    return findings


def _note_end_of_budget(
    study: Study, context: StudyContext, store: Store, observer: Observer, seconds: float
) -> None:
    """Say what the time budget has left out."""
    from paretune.reporting.text.formatting import format_seconds
    from paretune.search import race

    records = study_input.load_records(study, store)
    ended = {record.run_id for record in records}
    ready, waiting = race.plan_runs(study, context, records)
    left = sum(one.run_id not in ended for one in ready) + len(waiting)
    if left:
        observer.note(
            f"The budget of {format_seconds(seconds)} is used: {left} runs of the study are not "
            "done. The answer is what is known so far; the same command continues."
        )


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
