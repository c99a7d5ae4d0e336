"""``run``: train what is missing and measure it; what is done stays done."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from paretune.errors import StudyError
from paretune.planning.shard import Shard
from paretune.study import Study
from paretune.study.quantities import parse_duration
from paretune.terminal.notebook import html_lines
from paretune.verbs import study_input
from paretune.verbs.executors import ExecutorChoice
from paretune.verbs.prepared import PreparedStudy, prepare_study
from paretune.verbs.workers import WorkerOptions, Workers

if TYPE_CHECKING:
    from paretune.execution.executor import StudySummary
    from paretune.execution.progress.observer import Observer


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
        budget: wall-clock time after which to stop, ``"30min"`` or seconds; in place of
            ``protocol.budget``. Runs that tell most per second come first
            (:mod:`paretune.search.budget`), and the next call continues.
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
    choice = ExecutorChoice(executor, address)
    share = None if shard is None else Shard.parse(shard)
    if isinstance(study, Mapping):
        study = Study.parse(study)
    resolved = study_input.resolve_study(study)
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
    # After what costs no seconds: these import torch.
    from paretune.execution.progress.observer import open_default_observer
    from paretune.search import race
    from paretune.search.budget import TimeBudget
    from paretune.verbs.memory_fit import check_memory

    workers = Workers.resolve(**options)
    with (
        open_default_observer(observer, quiet=quiet) as observer,
        prepare_study(
            study,
            store,
            observer,
            device=workers.device,
            offline=workers.offline,
            retry=retry,
            measure_speed=seconds is not None,
            shard=share,
        ) as prepared,
    ):
        checked, predictor = prepared.study, prepared.predictor
        check_memory(prepared.coming, predictor, workers.devices)
        devices = workers.count(prepared.coming, predictor)
        observer.note(
            f"{prepared.planned} runs, {choice.describe(workers, devices)} in "
            f"{prepared.context.describe_precisions(checked)}; results in {prepared.store.folder}"
        )
        for sentence in (*study_input.describe_test_files(checked), *choice.explain(devices)):
            observer.note(sentence)
        if share is not None:
            observer.note(_describe_shard(share, checked))
        chosen = choice.make(checked, workers, devices, fleet)
        deadline = None if seconds is None else time.monotonic() + seconds
        expand = race.plan_wanted_runs
        if deadline is not None:
            expand = TimeBudget(
                seconds_left=lambda: deadline - time.monotonic(),
                workers=sum(device.count for device in devices),
                predict=lambda run: predictor.predict(run).seconds,
            ).choose
        callbacks = prepared.callbacks(expand=expand, deadline=deadline)
        summary = chosen.execute(prepared.store, checked.study_hash, callbacks)
        if seconds is not None:
            _note_end_of_budget(prepared, seconds)
    return RunResult(checked, prepared.store.folder, summary)


def _describe_shard(shard: Shard, study: Study) -> str:
    raced = " No race and no budget: every run of its cells is trained."
    limited = study.protocol.race != "off" or study.protocol.budget is not None
    return (
        f"Share {shard.index} of {shard.count}: whole cells of the study; costs are measured once, "
        f"after the merge.{raced if limited else ''}"
    )


def _note_end_of_budget(prepared: PreparedStudy, seconds: float) -> None:
    """Say what the time budget has left out."""
    from paretune.reporting.text.formatting import format_seconds
    from paretune.search import race

    records = study_input.load_records(prepared.study, prepared.store)
    ended = {record.run_id for record in records}
    ready, waiting = race.plan_runs(prepared.study, prepared.context, records)
    left = len({one.run_id for one in ready} - ended) + len(waiting)
    if left:
        prepared.observer.note(
            f"The budget of {format_seconds(seconds)} is used: {left} runs of the study are not "
            "done. The answer is what is known so far; the same command continues."
        )
