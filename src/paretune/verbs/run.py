"""``run``: train what is missing and measure it; what is done stays done."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from paretune.errors import StudyError
from paretune.planning.shard import Shard
from paretune.study import NO_MODEL, Run, Study
from paretune.study.quantities import parse_duration
from paretune.terminal.notebook import html_lines
from paretune.verbs import study_input
from paretune.verbs.executors import ExecutorChoice
from paretune.verbs.workers import WorkerOptions, explain_memory, resolve_workers

if TYPE_CHECKING:
    from paretune.data.finding import Finding
    from paretune.execution.executor import StudyCallbacks, StudySummary
    from paretune.execution.progress import Observer
    from paretune.execution.study_loop import Expand
    from paretune.planning.predicted_cost import CostPredictor
    from paretune.planning.prepare import PreparedStudy
    from paretune.store import Store

COST_SHARE = 0.1
"""Of a time budget, for timing the costs of all methods."""


@dataclass(frozen=True)
class RunResult:
    """A study whose runs have ended, or whose time budget is used up.

    Attributes:
        folder: of the results.
        summary: how many runs ended and how, and which stopped with an unexpected error
            (``summary.failed``).
        left: runs that the time budget left out.
        seconds_left: predicted for them, wall clock; None where that is not known.
    """

    study: Study
    folder: Path
    summary: StudySummary
    left: int = 0
    seconds_left: float | None = 0.0

    def _repr_html_(self) -> str:
        ended = [f"{count} {outcome}" for outcome, count in self.summary.outcomes.items()]
        failed = [f"{one.run.cell}: {one.message}" for one in self.summary.failed]
        text = f"{self.study.study}: {', '.join(ended)}; results in {self.folder}"
        return html_lines([text, *failed])


def run(
    study: Study | Mapping[str, Any] | Path | str,
    *,
    store: Path | str | None = None,
    retry: bool = False,
    fleet: int | None = None,
    executor: str = "local",
    address: str | None = None,
    budget: str | float | None = None,
    shard: str | None = None,
    observer: Observer | None = None,
    quiet: bool = False,
    **options: Unpack[WorkerOptions],
) -> RunResult:
    """Run a study in worker processes, or continue it, until none of its runs is left.

    Args:
        study: a study, its file, the name of a shipped one, or plain values as
            :meth:`Study.parse <paretune.study.Study.parse>` takes them.
        store: folder of the results; ``studies/NAME`` by default.
        retry: try runs again that failed or did not fit in memory, and those whose stored files are
            missing or damaged.
        fleet: maximum number of runs of one method that train together in one worker, where batches
            can be shared and memory allows; 1: every run alone. By default 8 where that is faster,
            1 on a GPU.
        executor: ``local``: worker processes of this machine; ``ray``: tasks on a Ray cluster.
        address: of that cluster, ``HOST:PORT``; the one of this machine by default.
        budget: wall-clock time from now after which to stop, ``"30min"`` or seconds; in place of
            ``protocol.budget``. A first score of every method comes first
            (:mod:`paretune.search.budget`), costs are timed more briefly, and the next call
            continues.
        shard: ``"3/16"``: run the third of 16 shares, into a store of its own,
            ``studies/NAME-shard-3-of-16`` by default. When all have ended, :func:`paretune.merge`
            joins them, and this function without ``shard`` measures the costs.
        observer: told how the runs go on; by default it is shown in a terminal or a notebook.
        quiet: show nothing.
        options: ``workers``, ``threads``, ``devices``, ``online`` (:class:`WorkerOptions`); data
            and models are downloaded before the workers start.

    Returns:
        Where the results are and how the runs ended. A run that stopped with an error raises
        nothing; it is in ``summary.failed``.

    Raises:
        ParetuneError: the study, its data, a model or a method cannot be used.
        KeyboardInterrupt: after the workers gave their runs back; the same call continues.
    """
    started = time.monotonic()
    choice = ExecutorChoice(executor, address)
    share = None if shard is None else Shard.parse(shard)
    if isinstance(study, Mapping):
        study = Study.parse(study)
    resolved = study_input.resolve_study(study)
    text = study_input.study_file_text(study)
    own_budget = resolved.protocol.budget if share is None else None
    seconds = own_budget if budget is None else parse_duration(budget, "--budget")
    if share is not None:
        if seconds is not None:
            raise StudyError(
                "a share of a study has no budget.",
                where="--budget",
                remedy="Leave it out: a share that is stopped continues by the same command.",
            )
        store = study_input.shard_folder(resolved, share) if store is None else store
    folder = study_input.store_folder(resolved, store)
    # After what costs no seconds: these import torch.
    from paretune.execution.memory_budget import fit_workers
    from paretune.execution.progress import open_default_observer
    from paretune.search import race
    from paretune.search.budget import TimeBudget
    from paretune.verbs.memory_fit import check_memory

    workers, offline = resolve_workers(**options), not options.get("online", False)
    device = workers[0].device
    with (
        open_default_observer(observer, quiet=quiet) as observer,
        open_study(resolved, folder, observer, device, offline=offline, shard=share) as (
            prepared,
            opened,
        ),
    ):
        if retry and (again := opened.retry(resolved.study_hash)):
            observer.note(f"Runs that are tried again: {again}.")
        planned = plan_first_runs(
            prepared, opened, text, observer, device, measure_speed=seconds is not None
        )
        checked, predictor = resolved, planned.predictor
        if seconds is not None:
            checked = _shorten_costs(checked, planned.coming, seconds)
        check_memory(planned.coming, predictor, [settings.device for settings in workers])
        run_bytes = predictor.predict_worker_bytes(planned.coming)
        fitted = fit_workers(workers, run_bytes)
        if executor == "local":  # what fits here says nothing of a cluster
            workers = fitted
        observer.note(
            f"{planned.count} runs, {choice.describe(workers)} in "
            f"{prepared.describe_precisions()}; results in {opened.folder}"
        )
        sentences = study_input.describe_test_files(checked)
        for sentence in (*sentences, *explain_memory(workers, run_bytes)):
            observer.note(sentence)
        if share is not None:
            observer.note(_describe_shard(share, checked))
        chosen = choice.make(checked, prepared, workers, fleet)
        deadline = None if seconds is None else started + seconds
        expand = race.plan_wanted_runs
        if deadline is not None:
            expand = TimeBudget(
                seconds_left=lambda: deadline - time.monotonic(),
                workers=sum(settings.device_workers for settings in fitted),
                predict=lambda run: predictor.predict(run).seconds,
            ).choose
        callbacks = _make_callbacks(planned, observer, expand, deadline)
        before = {s.run_id for s in opened.load_statuses(checked.study_hash) if s.ended}
        begun = time.monotonic()
        summary = chosen.execute(opened, checked.study_hash, callbacks)
        if seconds is None:
            return RunResult(checked, opened.folder, summary)
        left, seconds_left = _predict_rest(planned, before, time.monotonic() - begun)
        if left:
            done = sum(summary.outcomes.values())
            observer.note(
                f"{done} of {done + left} runs are done in the time allowed; the same command "
                "continues."
            )
        return RunResult(checked, opened.folder, summary, left, seconds_left)


@contextmanager
def open_study(
    study: Study,
    folder: Path,
    observer: Observer,
    device: str = "cpu",
    *,
    offline: bool = True,
    shard: Shard | None = None,
) -> Iterator[tuple[PreparedStudy, Store]]:
    """Audit and prepare a study, and open its store.

    Args:
        folder: of the results; made after the audit.
        device: whose precision ``auto`` means.
        offline: fetch nothing.
        shard: prepare the runs of this share alone.

    Raises:
        ParetuneError: the study, its data, a model or a method cannot be used.
    """
    from paretune.planning import preflight
    from paretune.planning.prepare import describe_refused, prepare_study
    from paretune.store import Store

    prepared = prepare_study(study, offline=offline, shard=shard, audited=True)
    _show([*prepared.findings, *describe_refused(prepared.refused)], observer)
    if notes := sum(finding.severity == "note" for finding in prepared.findings):
        observer.note(f"Notes on the data: {notes}; `paretune check` shows them.")
    preflight.check_optional_metrics(
        prepared.datasets.values(), study.generation, prepared.caches, offline=offline
    )
    with Store.open(folder, create=True) as opened:
        yield prepared.in_store(opened, device), opened


@dataclass(frozen=True)
class PlannedStudy:
    """A prepared study in its open store, with its first runs planned and checked.

    Attributes:
        coming: runs that have not ended, with those whose rate is not chosen yet.
        count: of runs that the study will have in all.
    """

    prepared: PreparedStudy
    store: Store
    predictor: CostPredictor
    coming: Sequence[Run]
    count: int


def plan_first_runs(
    prepared: PreparedStudy,
    opened: Store,
    text: str,
    observer: Observer,
    device: str = "cpu",
    *,
    measure_speed: bool = False,
) -> PlannedStudy:
    """Plan the runs of a study, check that they can start, and save the study.

    Args:
        text: of the study file.
        device: whose speed is predicted.
        measure_speed: of matrix products, so that time is predicted before a run has ended.

    Raises:
        ParetuneError: data cannot be cut, or a model cannot be used.
    """
    from paretune.measuring.speed import MachineSpeed
    from paretune.planning import preflight
    from paretune.planning.predicted_cost import CostPredictor
    from paretune.planning.prepare import describe_refused
    from paretune.search import expand, race
    from paretune.verbs.stored_findings import find_damaged_trials, save_findings
    from paretune.verbs.trained_data import save_trained_data

    study, caches = prepared.study, prepared.caches
    records = study_input.load_records(study, opened)
    ready, waiting = race.plan_runs(prepared, records)
    ended = {record.run_id for record in records}
    by_id = {one.run_id: one.run for one in ready}  # several searches may share a trial
    coming = [*(run for run_id, run in by_id.items() if run_id not in ended), *waiting]
    preflight.check_splits(coming, caches)
    preflight.check_models(coming, caches)
    earlier = opened.list_studies()
    if any(row.name == study.study for row in earlier) and not any(
        row.study_hash == study.study_hash for row in earlier
    ):
        observer.note(
            "The study has changed since it last ran here: runs that it still needs are "
            "reused; the others stay in the store and are not in its report."
        )
    opened.save_study(study.study_hash, study.study, text, study.canonical_form())
    impossible = describe_refused(prepared.refused)
    save_findings(opened, study.study_hash, [*prepared.findings, *impossible])
    save_trained_data(opened, study, prepared.datasets)
    if others := expand.leave_out_stale_runs(prepared, opened):
        observer.note(
            f"Runs left out: {others}. Their data, model or code has changed since; "
            "they stay in the store, and count again if it is changed back."
        )
    _show(find_damaged_trials(opened, records), observer)
    speed = MachineSpeed.measure() if measure_speed else None
    predictor = CostPredictor(caches, speed, records, device)
    return PlannedStudy(prepared, opened, predictor, coming, len(by_id) + len(waiting))


def _show(findings: Sequence[Finding], observer: Observer) -> None:
    """Errors and warnings; `check` shows notes too."""
    for finding in findings:
        if finding.severity != "note":
            observer.note(f"{finding.severity}: {finding}")


def _make_callbacks(
    planned: PlannedStudy, observer: Observer, expand: Expand, deadline: float | None
) -> StudyCallbacks:
    """For an executor: which runs come next, and when the study is to end."""
    from paretune.execution.executor import StudyCallbacks
    from paretune.execution.study_loop import add_missing_runs
    from paretune.execution.weight_budget import drop_excess_weights

    study, shard = planned.prepared.study, planned.prepared.shard
    # How many a race or a budget will train is not known beforehand.
    is_known = deadline is None and (study.protocol.race == "off" or shard is not None)

    def drop_weights() -> None:
        if shard is None:  # which runs are best is known after the merge
            drop_excess_weights(study, planned.store)

    return StudyCallbacks(
        observer=observer,
        add_runs=lambda: add_missing_runs(
            planned.prepared, planned.store, planned.predictor, expand
        ),
        after_final_runs=drop_weights,
        planned_runs=planned.count if is_known else 0,
        deadline=deadline,
    )


def _describe_shard(shard: Shard, study: Study) -> str:
    raced = " No race and no budget: every run of its cells is trained."
    limited = study.protocol.race != "off" or study.protocol.budget is not None
    return (
        f"Share {shard.index} of {shard.count}: whole cells of the study; costs are measured once, "
        f"after the merge.{raced if limited else ''}"
    )


def _shorten_costs(study: Study, coming: Sequence[Run], seconds: float) -> Study:
    """The study with costs that are timed for no more than a tenth of the time altogether."""
    costs = sum(run.stage == "cost" for run in coming)
    # Answers are timed for half as long as steps.
    bound = COST_SHARE * seconds / (1.5 * max(costs, 1))
    protocol = study.protocol
    shorter = {"cost_seconds": min(protocol.cost_seconds, bound)}
    return study.model_copy(update={"protocol": protocol.model_copy(update=shorter)})


def _predict_rest(
    planned: PlannedStudy, before: Collection[str], spent_seconds: float
) -> tuple[int, float | None]:
    """How many runs the time budget has left out, and the seconds that they will take.

    Predictions are scaled by what those that ended have taken: the machine may be slow or busy.

    Args:
        before: ids of runs that had ended before.
        spent_seconds: on those that have ended since.
    """
    from paretune.search import race

    study, predictor = planned.prepared.study, planned.predictor
    records = study_input.load_records(study, planned.store)
    ended = {s.run_id: s.run for s in planned.store.load_statuses(study.study_hash) if s.ended}
    ready, waiting = race.plan_runs(planned.prepared, records)
    left = [*({p.run_id: p.run for p in ready if p.run_id not in ended}).values(), *waiting]
    predictor.fit(records)
    # A baseline without a model takes as long as its worker's start, which says nothing.
    new = (run for key, run in ended.items() if key not in before and run.model != NO_MODEL)
    predicted = sum(predictor.predict(run).seconds or 0.0 for run in new)
    rest = [predictor.predict(run).seconds for run in left]
    if not predicted or None in rest:
        return len(left), None
    return len(left), sum(seconds or 0.0 for seconds in rest) * spent_seconds / predicted
