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
from paretune.errors import ParetuneError, RunsFailedError, StudyError, require_name, spell_option
from paretune.execution.executor import StudyCallbacks, StudySummary
from paretune.execution.fork_server import ForkServer, can_fork
from paretune.execution.local import WORKER
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
    choose_executor,
    describe_workers,
    explain_memory,
    explain_too_large,
    fit_to_machine,
    resolve_workers,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

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
        deadline: the end of the time budget by ``time.monotonic``.
    """

    study: Study
    folder: Path
    shard: Shard | None
    seconds: float | None
    deadline: float | None


@dataclass(frozen=True)
class PlannedStudy:
    """A prepared study in its store, and its runs as far as they are known before one starts.

    Attributes:
        predictor: of what runs take, by the records of the store.
        coming: runs that have not ended, with those whose rate is not chosen yet.
        run_count: how many the study will have in all.
        cost_seconds: for which each cost is timed at most.
    """

    prepared: PreparedStudy
    store: Store
    predictor: CostPredictor
    coming: Sequence[Run]
    run_count: int
    cost_seconds: float

    @property
    def goes_on(self) -> bool:
        """Whether further passes may follow these runs."""
        return self.prepared.study.protocol.preset == "passes" and self.prepared.shard is None


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
        retry: Run again what failed, did not fit in memory or has damaged files.
        executor: Where runs are executed: local, in processes of this machine, or ray, as tasks
            on a Ray cluster (docs/how-it-works/cluster.md).
        address: Address of the Ray cluster's head node. [default: a cluster on this machine]
        budget: Stop after this time: 30min. The same command continues. [default:
            protocol.budget]
        shard: Run share I of N of the study's cells, into studies/NAME-shard-I-of-N or --store.
            `paretune merge` joins the shares (docs/how-it-works/cluster.md).
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
        check_optional_metrics(
            prepared.datasets.values(), study.generation, prepared.caches, offline=not online
        )
        # Plan the first runs in the store.
        opened = stack.enter_context(Store.open(call.folder, create=True))
        prepared = prepared.in_store(opened, settings[0].device)
        if retry and (again := opened.retry(study.study_hash)):
            observer.note(f"Runs that are tried again: {again}.")
        planned = plan_first_runs(prepared, opened, observer, settings[0].device, call.seconds)
        # Choose the workers that fit.
        if too_large := explain_too_large(planned.coming, planned.predictor, settings):
            raise StudyError("\n".join(too_large), remedy=REMEDY)
        fitted, run_bytes = fit_to_machine(planned.coming, planned.predictor, settings)
        if executor == "local":  # what fits here says nothing of a cluster
            settings = fitted
        workers_text = describe_workers(settings, executor, address)
        limits = explain_memory(settings, run_bytes)
        for sentence in describe_start(planned, workers_text, limits, settings[0].device):
            observer.note(sentence)
        # Train, and measure costs.
        runs = choose_executor(
            prepared,
            settings,
            planned.cost_seconds,
            allow_commands=allow_commands,
            executor=executor,
            address=address,
            server=server,
        )
        count = sum(worker.device_workers for worker in fitted)
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
    deadline = None if seconds is None else started + seconds
    return StudyCall(study, study_input.store_folder(study, store), share, seconds, deadline)


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
    seconds: float | None = None,
) -> PlannedStudy:
    """Plan the runs of a study, check that they can start, and save the study.

    Args:
        device: whose speed is predicted.
        seconds: of a time budget, which needs the time of runs before one has ended.

    Raises:
        ParetuneError: data cannot be cut, or a model cannot be used.
    """
    from paretune.planning import checks, expand
    from paretune.planning.predicted_cost import CostPredictor

    study, caches = prepared.study, prepared.caches
    records = opened.load_study_records(study)
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
    if stale := expand.leave_out_stale_runs(prepared, opened):
        observer.note(
            f"Runs left out: {stale}. Their data, model or code has changed since; "
            "they stay in the store, and count again if it is changed back."
        )
    save_findings(opened, study.study_hash, [*prepared.findings, *prepared.refused])
    save_trained_data(opened, study, prepared.datasets)
    for finding in find_damaged_trials(opened, records):
        observer.note(f"{finding.severity}: {finding}")
    predictor = CostPredictor(caches, None, records, device)
    cost_seconds = study.protocol.cost_seconds
    if seconds is not None:
        predictor.measure_speed(coming)
        # All costs take a share of the time. Answers are timed for half as long as steps.
        costs = max(sum(run.stage == "cost" for run in coming), 1)
        cost_seconds = min(cost_seconds, COST_SHARE * seconds / (1.5 * costs))
    run_count = len(plan.runs) + len(plan.later)
    return PlannedStudy(prepared, opened, predictor, coming, run_count, cost_seconds)


def describe_start(
    planned: PlannedStudy, workers: str, memory_limits: Iterable[str], device: str
) -> Iterator[str]:
    """Say how many runs there are, with what they are trained, and where the results are.

    Args:
        workers: in a few words.
        memory_limits: how memory limits them, as sentences.
        device: of the workers.
    """
    study = planned.prepared.study
    precisions = planned.prepared.describe_precisions(device)
    first = "First pass: " if planned.goes_on else ""
    yield (
        f"{first}{planned.run_count} runs, {workers} in {precisions}; "
        f"results in {planned.store.folder}"
    )
    yield from study_input.describe_test_files(study)
    yield from memory_limits
    if (shard := planned.prepared.shard) is not None:
        share = f"Share {shard.index} of {shard.count}: whole cells of the study"
        if study.protocol.preset == "passes" and study.protocol.until == "settled":
            yield f"{share}, in their first pass; further passes and costs follow after the merge."
        else:
            yield f"{share}, every run; costs are measured once, after the merge."


def make_callbacks(
    call: StudyCall, planned: PlannedStudy, observer: Observer, workers: int
) -> StudyCallbacks:
    """Make what the executor calls while runs end: it adds the next ones, and tells the answer.

    Args:
        workers: that train at the same time.
    """
    study = call.study
    announced: dict[str, int] = {}

    def after_final_runs() -> None:
        if call.shard is None:  # which runs of a share are best is known after the merge
            drop_excess_weights(study, planned.store)
            announce_answers(study, planned.store, observer, announced)

    return StudyCallbacks(
        observer=observer,
        add_runs=lambda: add_missing_runs(
            planned.prepared, planned.store, planned.predictor, call.deadline, workers
        ),
        after_final_runs=after_final_runs,
        planned_runs=0 if planned.goes_on or call.deadline is not None else planned.run_count,
        deadline=call.deadline,
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
        records = records or opened.load_study_records(study)
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

    records = planned.store.load_study_records(call.study)
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
