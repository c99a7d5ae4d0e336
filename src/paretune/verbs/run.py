"""``run``: train what is missing and measure it; what is done stays done."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import typer

from paretune.analysis.cells import group_into_cells
from paretune.analysis.pareto.recommend import recommend
from paretune.analysis.passes import count_pass_runs, limits_of
from paretune.analysis.run_selection import select_excess_weights
from paretune.errors import ParetuneError, RunsFailedError, StudyError, require_name, spell_option
from paretune.execution.executor import StudyCallbacks, StudySummary
from paretune.execution.fork_server import ForkServer, can_fork
from paretune.execution.local import WORKER
from paretune.execution.memory_budget import fit_workers
from paretune.execution.progress import Observer, open_default_observer
from paretune.execution.study_runs import add_missing_runs, drop_excess_weights
from paretune.measuring.processor import defer_collection
from paretune.methods import baselines
from paretune.methods.command import refuse_commands
from paretune.planning.shard import Shard
from paretune.reporting.text.conclusions import describe_passes
from paretune.reporting.text.recommendation import write_advice
from paretune.store import Record, RunStatus, Store
from paretune.study import Run, Study
from paretune.study.quantities import DURATION
from paretune.terminal.plural import pluralise
from paretune.verbs import study_input
from paretune.verbs.options import (
    AllowCommands,
    Devices,
    Flag,
    Online,
    Quiet,
    StoreFolder,
    StudyLike,
    Threads,
    Time,
    Workers,
)
from paretune.verbs.report import report as report_study
from paretune.verbs.result import Result
from paretune.verbs.stored_audit import find_damaged_trials, save_findings, save_trained_data
from paretune.verbs.workers import (
    REMEDY,
    describe_workers,
    explain_memory,
    explain_too_large,
    make_executor,
    resolve_workers,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from paretune.execution.worker_settings import WorkerSettings
    from paretune.planning.predicted_cost import CostPredictor
    from paretune.planning.prepare import PreparedStudy
    from paretune.terminal.rich_console import Terminal

COST_SHARE = 0.1
"""This share of a time budget goes to timing the costs of all methods."""


@dataclass(frozen=True, repr=False)
class RunResult(Result):
    """A study whose runs have ended, or whose time budget is used up.

    Attributes:
        study: the study's name.
        folder: the folder of the results.
        summary: how many runs ended and how, and which stopped with an unexpected error
            (``summary.failed``).
        left: runs that the time budget left out.
        seconds_left: predicted wall-clock seconds of these runs; None where that is not known.
        shard: the share that was run; None: all of the study.
    """

    json_fields: ClassVar = ("study", "folder", "ended", "failed", "left", "seconds_left")

    study: Study
    folder: Path
    summary: StudySummary
    left: int = 0
    seconds_left: float | None = 0.0
    shard: Shard | None = None

    @property
    def ended(self) -> int:
        """How many runs have ended."""
        return sum(self.summary.outcomes.values())

    @property
    def failed(self) -> Sequence[RunStatus]:
        """Runs that stopped with an error: each with what identifies it, run_id and message."""
        return self.summary.failed

    @property
    def failure(self) -> ParetuneError | None:
        """The runs that failed."""
        if not self.failed:
            return None
        allowed = f" {spell_option('allow_commands', True)}" if self.study.commands else ""
        names = "\n".join(f"  {status.run_id}: {status.message}" for status in self.failed)
        return RunsFailedError(
            f"{pluralise(len(self.failed), 'run')} stopped with an error:\n{names}\n",
            remedy=f"`paretune run --retry{allowed} "
            f"{study_input.spell_study(self.study, self.folder)}` "
            "tries them again.",
        )

    def describe(self) -> Iterable[RenderableType]:
        """Say how the runs ended, and what comes next."""
        ended = [f"{count} {outcome}" for outcome, count in self.summary.outcomes.items()]
        yield f"{self.study.study}: {', '.join(ended)}; results in {self.folder}"
        yield from (f"{' x '.join(status.run.cell)}: {status.message}" for status in self.failed)
        if self.shard is not None:
            merged = Path("studies", self.study.study)
            stores = f"{merged}-shard-*-of-{self.shard.count}"
            if self.folder != study_input.shard_folder(self.study, self.shard):
                stores = "STORES"
            yield (
                f"Share {self.shard.index}/{self.shard.count}: {self.folder}. When all have ended: "
                f"paretune merge {stores} --output {merged}, then paretune run "
                f"{self.study.typed} measures the costs and reports."
            )

    def show(self, out: Terminal, *, report: Flag = True, quiet: Quiet = False) -> None:
        """Print the comparison, and write its page; of a share, what comes next.

        Args:
            report: Show and write the comparison at the end.
        """
        if self.shard is not None:
            super().show(out)
        elif report:
            report_study(self.study, store=self.folder).show(out, quiet=quiet)


@dataclass(frozen=True)
class StudyCall:
    """A call of :func:`run` that makes sense; its stages read it.

    Attributes:
        folder: the folder of the results.
        shard: the share to run; None: all of the study.
        seconds: the time budget; None: there is none.
        started: start of the time budget by ``time.monotonic``.
    """

    study: Study
    folder: Path
    shard: Shard | None
    seconds: float | None
    started: float

    @property
    def deadline(self) -> float | None:
        """The end of the time budget by ``time.monotonic``, if there is one."""
        return None if self.seconds is None else self.started + self.seconds

    def limit_cost_seconds(self, coming: Iterable[Run]) -> float:
        """The seconds for timing each cost: all of them take a share of the time budget."""
        cost_seconds = self.study.protocol.cost_seconds
        if self.seconds is None:
            return cost_seconds
        costs = max(sum(run.stage == "cost" for run in coming), 1)
        # Answers are timed for half as long as steps.
        return min(cost_seconds, COST_SHARE * self.seconds / (1.5 * costs))

    def describe_shard(self) -> Iterator[str]:
        """Say what the share is and what follows it; nothing where all of the study is run."""
        if self.shard is None:
            return
        share = f"Share {self.shard.index} of {self.shard.count}: whole cells of the study"
        if self.study.protocol.preset == "passes" and self.study.protocol.until == "settled":
            yield f"{share}, in their first pass; further passes and costs follow after the merge."
        else:
            yield f"{share}, every run; costs are measured once, after the merge."


@dataclass(frozen=True)
class PlannedStudy:
    """A prepared study in its store, and its runs as far as they are known before one starts.

    Attributes:
        predictor: of what runs take, by the records of the store.
        coming: runs that have not ended, with those whose rate is not chosen yet.
        run_count: how many the study will have in all.
    """

    prepared: PreparedStudy
    store: Store
    predictor: CostPredictor
    coming: Sequence[Run]
    run_count: int

    @property
    def goes_on(self) -> bool:
        """Whether further passes may follow these runs."""
        return self.prepared.study.protocol.preset == "passes" and self.prepared.shard is None

    def describe(self, workers: str) -> str:
        """How many runs there are, with what they are trained, and where the results are."""
        first = "First pass: " if self.goes_on else ""
        return (
            f"{first}{self.run_count} runs, {workers} in {self.prepared.describe_precisions()}; "
            f"results in {self.store.folder}"
        )


def run(
    study: StudyLike,
    *,
    store: StoreFolder = None,
    workers: Workers = None,
    threads: Threads = 1,
    devices: Devices = "auto",
    online: Online = False,
    retry: Flag = False,
    executor: Annotated[Literal["local", "ray"], typer.Option(metavar="NAME")] = "local",
    address: Annotated[str | None, typer.Option(metavar="HOST:PORT")] = None,
    budget: Time | None = None,
    shard: Annotated[str | None, typer.Option(metavar="I/N")] = None,
    allow_commands: AllowCommands = False,
    quiet: Quiet = False,
    observer: Observer | None = None,
) -> RunResult:
    """Run a study, or continue it.

    After Ctrl-C, a crash or a power cut, the same command continues. Several processes may work
    on one study at once.

    Args:
        retry: Try runs again that failed, did not fit in memory, or have damaged files.
        executor: What executes the runs: local, processes of this machine; or ray, tasks on a Ray
            cluster (docs/how-it-works/cluster.md).
        address: Head of the Ray cluster. [default: the cluster of this machine]
        budget: Stop after 30min; the same command continues. [default: protocol.budget]
        shard: Run one of N shares, whole cells, into studies/NAME-shard-I-of-N or --store;
            `paretune merge` joins them (docs/how-it-works/cluster.md).
        observer: told how the runs go on; by default it is shown in a terminal or a notebook.

    Returns:
        Where the results are and how the runs ended. A run that stopped with an error raises
        nothing; it is in ``summary.failed``.

    Raises:
        ParetuneError: the study, its data, a model or a method cannot be used.
        KeyboardInterrupt: after the workers gave their runs back; the same call continues.
    """
    # Read the call.
    call = read_call(study, store, budget, shard, executor, address)
    study = call.study
    refuse_commands(study.commands, allowed=allow_commands)
    with ExitStack() as stack:
        observer = stack.enter_context(open_default_observer(observer, quiet=quiet))
        server = None
        if executor == "local" and can_fork("cpu" if devices == "auto" else devices):
            # Now, so that it imports what workers need beside the same imports here.
            server = ForkServer(WORKER)
            stack.callback(server.close)
        observer.note(
            f"{study.study}: {pluralise(len(study.all_methods), 'method')} on "
            f"{pluralise(len(study.models), 'model')} and {pluralise(len(study.tasks), 'task')}; "
            "data and models are checked before anything is trained."
        )
        # After what costs no seconds: this imports torch.
        with defer_collection():
            from paretune.planning.checks import check_optional_metrics
            from paretune.planning.prepare import prepare_study

        settings = resolve_workers(workers, threads, devices)
        if server is not None and not any(can_fork(worker.device) for worker in settings):
            server.close()  # there is a GPU
        # Read data, models and methods, and say what is wrong with them.
        prepared = prepare_study(study, offline=not online, shard=call.shard, audited=True)
        report_findings(prepared, observer)
        datasets = prepared.datasets.values()
        check_optional_metrics(datasets, study.generation, prepared.caches, offline=not online)
        # Plan the first runs in the store.
        opened = stack.enter_context(Store.open(call.folder, create=True))
        prepared = prepared.in_store(opened, settings[0].device)
        if retry and (again := opened.retry(study.study_hash)):
            observer.note(f"Runs that are tried again: {again}.")
        planned = plan_first_runs(
            prepared, opened, observer, settings[0].device, measure_speed=call.seconds is not None
        )
        # Choose the workers that fit.
        fitted, run_bytes = fit_to_machine(planned, settings)
        if executor == "local":  # what fits here says nothing of a cluster
            settings = fitted
        observer.note(planned.describe(describe_workers(settings, executor, address)))
        for sentence in (
            *study_input.describe_test_files(study),
            *explain_memory(settings, run_bytes),
            *call.describe_shard(),
        ):
            observer.note(sentence)
        # Train, and measure costs.
        count = sum(device.device_workers for device in fitted)
        runs = make_executor(
            prepared,
            settings,
            call.limit_cost_seconds(planned.coming),
            allow_commands=allow_commands,
            executor=executor,
            address=address,
            server=server,
        )
        callbacks = make_callbacks(call, planned, observer, count)
        summary = runs.execute(opened, study.study_hash, callbacks)
        return conclude(call, planned, summary, observer, count)


def read_call(
    study: StudyLike,
    store: StoreFolder,
    budget: Time | None,
    shard: str | None,
    executor: str,
    address: str | None,
) -> StudyCall:
    """Read the study, and decide where and for how long it runs.

    Raises:
        StudyError: there is no such study, share or executor, or options contradict each other.
    """
    started = time.monotonic()
    require_name("executor", executor, ("local", "ray"), "paretune")
    if address is not None and executor == "local":
        remedy = f"Add {spell_option('executor', 'ray')}."
        raise StudyError(
            "only a cluster has an address.", where=spell_option("address"), remedy=remedy
        )
    share = None if shard is None else Shard.parse(shard)
    study = study_input.load_study(study)
    seconds = None if budget is None else DURATION.parse(budget, spell_option("budget"))
    if share is None:
        seconds = study.protocol.budget if seconds is None else seconds
    elif seconds is None:
        store = study_input.shard_folder(study, share) if store is None else store
    else:
        raise StudyError(
            "a share of a study has no budget.",
            where=spell_option("budget"),
            remedy="Leave it out: a share that is stopped continues by the same command.",
        )
    return StudyCall(study, study_input.store_folder(study, store), share, seconds, started)


def report_findings(prepared: PreparedStudy, observer: Observer) -> None:
    """Say what is wrong with the data, and which methods cannot be run."""
    for finding in (*prepared.findings, *prepared.refused):
        if finding.severity != "note":
            observer.note(f"{finding.severity}: {finding}")
    if notes := sum(finding.severity == "note" for finding in prepared.findings):
        observer.note(f"Notes on the data: {notes}; `paretune check` shows them.")


def plan_first_runs(
    prepared: PreparedStudy,
    opened: Store,
    observer: Observer,
    device: str = "cpu",
    *,
    measure_speed: bool = False,
) -> PlannedStudy:
    """Plan the runs of a study, check that they can start, and save the study.

    Args:
        device: whose speed is predicted.
        measure_speed: of matrix products, so that time is predicted before a run has ended.

    Raises:
        ParetuneError: data cannot be cut, or a model cannot be used.
    """
    from paretune.planning import checks, expand
    from paretune.planning.predicted_cost import CostPredictor

    study, caches = prepared.study, prepared.caches
    records = study_input.load_records(study, opened)
    plan = expand.plan_runs(prepared, records)
    coming = plan.list_coming(records)
    checks.check_splits(coming, caches)
    checks.check_models(coming, caches)
    earlier = opened.list_studies()
    if any(row.name == study.study for row in earlier) and not any(
        row.study_hash == study.study_hash for row in earlier
    ):
        observer.note(
            "The study has changed since it last ran here: runs that it still needs are "
            "reused; the others stay in the store and are not in its report."
        )
    settings = shlex.join(study.overrides)
    opened.save_study(study.study_hash, study.study, settings, study.canonical_form())
    save_findings(opened, study.study_hash, [*prepared.findings, *prepared.refused])
    save_trained_data(opened, study, prepared.datasets)
    if stale := expand.leave_out_stale_runs(prepared, opened):
        observer.note(
            f"Runs left out: {stale}. Their data, model or code has changed since; "
            "they stay in the store, and count again if it is changed back."
        )
    for finding in find_damaged_trials(opened, records):
        observer.note(f"{finding.severity}: {finding}")
    predictor = CostPredictor(caches, None, records, device)
    if measure_speed:
        predictor.measure_speed(coming)
    return PlannedStudy(prepared, opened, predictor, coming, len(plan.runs) + len(plan.later))


def fit_to_machine(
    planned: PlannedStudy, settings: Sequence[WorkerSettings]
) -> tuple[tuple[WorkerSettings, ...], Sequence[int]]:
    """The workers of each device that the coming runs leave room for, and the bytes of these runs.

    Raises:
        StudyError: a model with a method does not fit into memory.
    """
    if too_large := explain_too_large(planned.coming, planned.predictor, settings):
        raise StudyError("\n".join(too_large), remedy=REMEDY)
    training = [run for run in planned.coming if run.stage != "cost"]  # costs are measured alone
    run_bytes = [planned.predictor.predict(run).worker_bytes for run in training]
    return fit_workers(settings, run_bytes), run_bytes


def make_callbacks(
    call: StudyCall, planned: PlannedStudy, observer: Observer, workers: int
) -> StudyCallbacks:
    """Make what the executor calls while runs end: it adds the next ones, and tells the answer.

    Args:
        workers: that train at the same time.
    """
    from paretune.planning.budget import TimeBudget
    from paretune.planning.expand import expand_study

    study = call.study
    predictor = planned.predictor
    choose_runs = expand_study
    if (deadline := call.deadline) is not None:
        end = deadline
        choose_runs = TimeBudget(
            seconds_left=lambda: end - time.monotonic(),
            workers=workers,
            predict=lambda run: predictor.predict(run).seconds,
        ).choose
    announced: dict[str, int] = {}

    def after_final_runs() -> None:
        if call.shard is None:  # which runs of a share are best is known after the merge
            drop_excess_weights(study, planned.store, select_excess_weights)
            announce_answers(study, planned.store, observer, announced)

    return StudyCallbacks(
        observer=observer,
        add_runs=lambda: add_missing_runs(planned.prepared, planned.store, predictor, choose_runs),
        after_final_runs=after_final_runs,
        planned_runs=0 if planned.goes_on or deadline is not None else planned.run_count,
        deadline=deadline,
    )


def announce_answers(
    study: Study, opened: Store, observer: Observer, announced: dict[str, int]
) -> None:
    """Say the answer so far of each task of which all methods have come further.

    Further: they have their first run, or one pass more.

    Args:
        announced: by task, the number of runs of each method that was last said; changed.
    """
    if study.protocol.preset != "passes":
        return
    methods = {spec.key for spec in study.all_methods if spec.name not in baselines.NAMES}
    counts: dict[str, Counter[tuple[str, str, str]]] = {}
    folds: dict[str, int] = {}
    for status in opened.load_statuses(study.study_hash):
        run = status.run
        if run.stage == "final" and run.method.key in methods and run.rows == 1:
            counts.setdefault(run.task.key, Counter())[run.cell] += status.ended
            folds[run.task.key] = run.outer.folds if run.outer else 0
    records: list[Record] = []
    for task, of_task in counts.items():
        size = count_pass_runs(folds[task], study.protocol.seeds)
        fewest = min(of_task.values())
        reached = 1 if 0 < fewest < size else fewest // size * size
        if reached <= announced.get(task, 0):
            continue
        announced[task] = reached
        records = records or study_input.load_records(study, opened)
        cells = [cell for cell in group_into_cells(study, records) if cell.task == task]
        recommendation = recommend(cells, limits_of(study.limits))
        passes = [*describe_passes(study, cells, recommendation)]
        headline = write_advice(recommendation, passes=passes).lines[0]
        observer.note(" ".join([headline, *passes[:1]]))


def conclude(
    call: StudyCall, planned: PlannedStudy, summary: StudySummary, observer: Observer, workers: int
) -> RunResult:
    """The result: of a call with a time budget, also what is left and how long it will take.

    Predictions are fitted to what has ended: the machine may be slow or busy.
    """
    if call.seconds is None:
        return RunResult(call.study, planned.store.folder, summary, shard=call.shard)
    from paretune.planning.expand import plan_runs

    records = study_input.load_records(call.study, planned.store)
    left = plan_runs(planned.prepared, records).list_coming(records)
    planned.predictor.fit(records)
    predicted = [planned.predictor.predict(run).seconds for run in left]
    seconds_left = None
    if None not in predicted:  # costs are measured one after the other
        seconds_left = sum(
            (seconds or 0.0) / (1 if run.stage == "cost" else max(workers, 1))
            for run, seconds in zip(left, predicted, strict=True)
        )
    if left:
        done = sum(summary.outcomes.values())
        observer.note(
            f"The time is up after {done} of {done + len(left)} runs; the same command continues."
        )
    return RunResult(call.study, planned.store.folder, summary, len(left), seconds_left)
