"""``run``: train what is missing and measure it; what is done stays done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.study import Study
from paretune.verbs import places

if TYPE_CHECKING:
    from paretune.data.finding import Finding
    from paretune.execution.local import Summary
    from paretune.execution.progress import Observer
    from paretune.planning.context import Context
    from paretune.store import Store


@dataclass(frozen=True)
class Ran:
    """A study that has come to its end.

    ``folder`` holds the results; ``summary`` says how many runs ended and how, and which stopped
    with an unexpected error (``summary.failed``).
    """

    study: Study
    folder: Path
    summary: Summary


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
) -> Ran:
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
    given, text = places.asked(study), places.text_of(study)  # before torch is imported
    from paretune.execution.keeping import keep_within_budget
    from paretune.execution.local import run_study
    from paretune.execution.progress import Silent
    from paretune.measuring.devices import chosen_device
    from paretune.planning import opening
    from paretune.planning.context import Context
    from paretune.planning.predict import Predictor
    from paretune.planning.upcoming import upcoming
    from paretune.planning.workers import Workers, need, workers_for
    from paretune.store import Store
    from paretune.verbs.employed import why
    from paretune.verbs.findings import keep, lost_runs

    folder = places.store_folder(given, store)
    device = chosen_device(device)
    observer = observer or Silent()
    context = Context(offline=not online)
    found = _audited(given, context, observer)  # before a folder is made for results
    with Store.open(folder, create=True) as opened:
        context.auto_precision = opening.auto_precision_of(opened, device)
        opening.scorers(given, context)
        opened.adopt(given)
        records = places.records_of(given, opened)
        ready, waiting = upcoming(given, context, records)
        ended = {r.run_id for r in records if not (retry and r.outcome == "error")}
        coming = [*(one.run for one in ready if one.run_id not in ended), *waiting]
        opening.open_models(coming, context)
        _say_if_edited(given, opened, observer)
        opened.save_study(given.study_hash, given.study, text, given.canonical())
        keep(opened, given.study_hash, found)
        if others := opening.leave_out_others(given, context, opened):
            observer.note(
                f"Runs left out: {others}. They were made with data, a model or code that have "
                "changed since; they stay in the store, and are back if those are."
            )
        for lost in lost_runs(opened, given.study_hash):
            observer.note(f"{lost.severity}: {lost}")
        if retry:
            opened.retry(given.study_hash)
        planned = len(ready) + len(waiting)
        predictor = Predictor(context, {}, records, device)
        needs = [need(predictor.peak_bytes(run)) for run in coming if run.stage != "cost"]
        employed = Workers(workers, workers) if workers else workers_for(needs, device, threads)
        observer.note(
            f"{planned} runs, {employed.count} workers with {threads} thread(s) on {device} in "
            f"{context.precisions(given)}; results in {folder}"
        )
        if said := why(employed):
            observer.note(said)
        summary = run_study(
            opened,
            given.study_hash,
            workers=employed.count,
            threads=threads,
            observer=observer,
            expand=lambda: opening.add_missing(given, context, opened, predictor),
            memory_bytes=employed.memory_bytes,
            cost_seconds=given.protocol.cost_seconds,
            device=device,
            planned=planned,
            fleet=fleet,
            keep_bytes=given.protocol.keep_weights,
            tidy=lambda: keep_within_budget(given, opened),
        )
    return Ran(given, folder, summary)


def _audited(study: Study, context: Context, observer: Observer) -> list[Finding]:
    """All findings; errors and warnings are told, notes are counted (``check`` shows them)."""
    from paretune.planning import opening

    found: list[Finding] = []
    try:
        for finding in opening.audited(study, context):
            found.append(finding)
            if finding.severity != "note":
                observer.note(f"{finding.severity}: {finding}")
    finally:
        notes = sum(finding.severity == "note" for finding in found)
        if notes:
            observer.note(f"Notes on the data: {notes}; `paretune check` shows them.")
    return found


def _say_if_edited(study: Study, store: Store, observer: Observer) -> None:
    known = store.studies()
    if any(row.study_hash == study.study_hash for row in known):
        return
    if any(row.name == study.study for row in known):
        observer.note(
            "The study has changed since it last ran here: runs that it still asks for are taken "
            "over, the others stay in the store and out of its report."
        )
