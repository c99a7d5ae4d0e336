"""``plan``: every run with its predicted time and memory, before anything starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from paretune.execution.progress import describe_run, format_duration
from paretune.execution.worker_settings import STAGES, WorkerSettings
from paretune.measuring.processor import defer_collection
from paretune.methods.command import describe_command
from paretune.methods.core.titles import title_of
from paretune.reporting.text.formatting import format_bytes
from paretune.store import Store
from paretune.study import Run, Study
from paretune.study.run import is_trial
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line
from paretune.verbs import study_input
from paretune.verbs.options import Devices, Flag, Online, StoreFolder, StudyLike, Threads, Workers
from paretune.verbs.result import Result, to_json_value
from paretune.verbs.workers import (
    describe_workers,
    explain_memory,
    explain_too_large,
    fit_to_machine,
    resolve_workers,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from paretune.data.finding import Finding
    from paretune.planning.predicted_cost import PredictedCost
    from paretune.planning.prepare import PreparedStudy
    from paretune.store.record import Record
    from paretune.terminal.rich_console import Terminal

TITLES = ("model", "method", "runs", "done", "time", "peak memory")


@dataclass(frozen=True, repr=False)
class PredictedRun(Result):
    """One run, whether it has ended, and what it takes.

    Attributes:
        cost: predicted for one worker, alone.
        weight_bytes: size of the weights that a final run trains; 0 for all others.
    """

    run: Run
    done: bool
    cost: PredictedCost
    weight_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """The identity of the run, whether it has ended, and its predicted cost."""
        return {**to_json_value(self.run), "done": self.done, **to_json_value(self.cost)}


@dataclass(frozen=True, repr=False)
class Plan(Result):
    """All runs of a study, in the order in which they will run.

    Attributes:
        study: its name.
        runs: each with what identifies it, done, seconds (alone on one worker), peak_bytes, basis,
            memory_basis.
        worker_settings: of the workers of each device.
        precision: of the models.
        searches: what the methods that propose runs say of what they will try.
        too_large: a sentence with numbers for each model and method that cannot fit into memory;
            with any, the study is not run.
        impossible: methods that cannot train on a model as it is held; these cells have no runs.
        memory_limits: how memory limits the workers, as sentences.
    """

    json_fields: ClassVar = (
        "study",
        "runs",
        "done",
        "seconds_left",
        "workers",
        "threads",
        "devices",
        "precision",
        "too_large",
        "impossible",
        "searches",
    )

    study: Study
    runs: tuple[PredictedRun, ...]
    worker_settings: tuple[WorkerSettings, ...]
    precision: str
    searches: tuple[str, ...]
    too_large: tuple[str, ...]
    impossible: tuple[Finding, ...]
    memory_limits: tuple[str, ...]

    @property
    def workers(self) -> int:
        """How many processes train at once."""
        return sum(settings.device_workers for settings in self.worker_settings)

    @property
    def threads(self) -> int:
        """How many threads each worker has."""
        return self.worker_settings[0].threads

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices on which they train; costs are measured on the first."""
        return tuple(settings.device for settings in self.worker_settings)

    @property
    def done(self) -> int:
        """How many runs have ended."""
        return sum(predicted.done for predicted in self.runs)

    @property
    def seconds_left(self) -> float | None:
        """Predicted wall clock: runs train side by side, costs are measured one after the other.

        It is None where it is not known of a run that is left.
        """
        left = [p for p in self.runs if not p.done]
        seconds = _total_seconds([p for p in left if p.run.stage == "cost"])
        for predicted in left:
            if predicted.run.stage == "cost":
                continue
            if predicted.cost.seconds is None or seconds is None:
                return None
            run_bytes = predicted.cost.worker_bytes
            fitting = sum(s.count_fitting(run_bytes) for s in self.worker_settings)
            seconds += predicted.cost.seconds / fitting
        return seconds

    @property
    def cells(self) -> Mapping[tuple[str, str, str], list[PredictedRun]]:
        """The runs by task, model and method, in the study's order of tasks."""
        cells: dict[tuple[str, str, str], list[PredictedRun]] = {}
        order = [task.key for task in self.study.tasks]
        for predicted in sorted(self.runs, key=lambda p: order.index(p.run.cell[0])):
            task, model, method = predicted.run.cell
            if is_trial(predicted.run):  # each configuration is a cell of its own
                method = f"{predicted.run.method.name} (trials)"
            cells.setdefault((task, model, method), []).append(predicted)
        return cells

    def show(self, out: Terminal, *, every: Flag = False) -> None:
        """Print it.

        Args:
            every: Print a line for every run instead of every cell.
        """
        for line in self.describe(every=every):
            out.print(line, soft_wrap=True)

    def _list_cells(self) -> Iterator[str]:
        rows: list[tuple[str, ...]] = []
        for (_, model, method), runs in self.cells.items():
            stages = Counter(predicted.run.stage for predicted in runs)
            counts = "+".join(str(stages[stage]) for stage in ("tune", "final", "cost"))
            done = f"{sum(predicted.done for predicted in runs)}/{len(runs)}"
            time = _format_time(_total_seconds(runs))
            rows.append((model, title_of(method), counts, done, time, _format_peak(runs)))
        widths = [max(map(len, column)) for column in zip(TITLES, *rows, strict=True)]
        previous = None
        for (task, *_), row in zip(self.cells, rows, strict=True):
            if task != previous:
                yield task
            for texts in [row] if task == previous else [TITLES, row]:
                left = (t.ljust(width) for t, width in zip(texts[:2], widths[:2], strict=True))
                right = (t.rjust(width) for t, width in zip(texts[2:], widths[2:], strict=True))
                yield ("  " + "  ".join((*left, *right))).rstrip()
            previous = task
        yield "Runs: learning rates tried + final + cost measurements. Time: with one worker."

    def describe(self, *, every: bool = False) -> Iterable[RenderableType]:
        """A line for each cell, or for every run; and what all of them take."""
        for command in self.study.commands:
            yield sanitise_line(f"Command {command.key}: {describe_command(command)}")
        if every:
            for predicted in self.runs:
                cost = f"{_format_time(predicted.cost.seconds)}, {_format_peak([predicted])}"
                yield f"{describe_run(predicted.run)}: {'done' if predicted.done else cost}"
        else:
            yield from self._list_cells()
        yield from study_input.describe_test_files(self.study)
        yield from (f"Not possible: {finding}" for finding in self.impossible)
        yield from (f"Search: {sentence}" for sentence in self.searches)
        yield from (f"Does not fit: {sentence}" for sentence in self.too_large)
        seconds = self.seconds_left
        left = (
            "time left not known yet" if seconds is None else f"about {_format_time(seconds)} left"
        )
        yield (
            f"{pluralise(len(self.runs), 'run')}, {self.done} done; {left}; "
            f"{describe_workers(self.worker_settings)} in {self.precision}."
        )
        yield from self.memory_limits
        if self.study.protocol.preset == "passes" and self.study.protocol.until == "settled":
            yield (
                "This is the first pass. Further ones, at most "
                f"{len(self.study.protocol.seeds)} runs of a method in all, are trained only of "
                "methods between which the answer is open."
            )
        if costs := [p for p in self.runs if p.run.stage == "cost" and not p.done]:
            seconds = _total_seconds(costs)
            bound = self.study.protocol.cost_seconds
            about = "" if seconds is None else f", about {_format_time(seconds)}"
            yield (
                f"This includes {pluralise(len(costs), 'cost measurement')}, one at a time{about}: "
                f"training steps are timed for at most {bound:g} s each (protocol.cost_seconds), "
                f"inference for {bound / 2:g} s."
            )
        yield self._describe_weights()
        yield "Early stopping may shorten this, a busy machine lengthen it."
        last = self.runs[-1].cost
        yield f"Times are estimated from {last.basis}, memory from {last.memory_basis}."

    def _describe_weights(self) -> str:
        """Trained weights, so that nobody learns only afterwards which are not kept."""
        largest = [max(run.weight_bytes for run in runs) for runs in self.cells.values()]
        all_bytes = sum(run.weight_bytes for run in self.runs)
        budget_bytes = self.study.protocol.keep_weights
        best = format_bytes(sum(largest))
        budget = format_bytes(budget_bytes)
        if all_bytes <= budget_bytes:
            return f"Trained weights: {format_bytes(all_bytes)} for all final runs; all are kept."
        if sum(largest) <= budget_bytes:
            return (
                f"Trained weights: {format_bytes(all_bytes)} for all final runs, {best} for the "
                f"best of each method; protocol.keep_weights keeps {budget}, the best ones first."
            )
        too_large = sum(size > budget_bytes for size in largest)
        takes = "takes" if too_large == 1 else "take"
        alone = (
            f" {pluralise(too_large, 'method')} alone {takes} more than that." if too_large else ""
        )
        return (
            f"Trained weights: {best} for the best run of each method, and protocol.keep_weights "
            f"keeps {budget}, the recommended first; `export --train-again` trains the others once "
            f"more.{alone}"
        )


def _format_time(seconds: float | None) -> str:
    return "not known" if seconds is None else format_duration(seconds)


def _format_peak(runs: Iterable[PredictedRun]) -> str:
    """The highest peak of all; a dash where none needs a model."""
    peaks = [p.cost.peak_bytes for p in runs if p.cost.peak_bytes is not None]
    return format_bytes(max(peaks)) if peaks else "-"


def _total_seconds(runs: Iterable[PredictedRun]) -> float | None:
    """Seconds of all runs, one after another; None if those of one are not known."""
    seconds = [predicted.cost.seconds for predicted in runs]
    return None if None in seconds else sum(filter(None, seconds))


def plan(
    study: StudyLike,
    *,
    store: StoreFolder = None,
    workers: Workers = None,
    threads: Threads = 1,
    devices: Devices = "auto",
    online: Online = False,
) -> Plan:
    """Predict the time and memory of a study.

    Nothing is started or written. Runs that ended already are known from the store, whichever study
    or version of this one they were trained for.

    Raises:
        ParetuneError: the study, its data, a model or a method cannot be used.
    """
    # Before torch is imported: a typing error costs no seconds.
    study = study_input.load_study(study)
    with defer_collection():
        from paretune.planning import checks, expand
        from paretune.planning.predicted_cost import CostPredictor
        from paretune.planning.prepare import prepare_study

    folder = study_input.store_folder(study, store)
    settings = resolve_workers(workers, threads, devices)
    device = settings[0].device
    records: list[Record] = []
    prepared = prepare_study(study, offline=not online, audited=True)
    caches = prepared.caches
    with Store.open(folder) if (folder / "study.db").is_file() else nullcontext() as opened:
        # While the store is open: it knows what `precision: auto` means there.
        prepared = prepared.in_store(opened, device)
        if opened is not None:
            records = opened.load_study_records(study)
            records += _find_shared_records(prepared, opened, records)
        run_plan = expand.plan_runs(prepared, records)
    ended = {record.run_id for record in records}
    cost_seconds = study.protocol.cost_seconds
    predictor = CostPredictor(caches, None, records, device, cost_seconds)
    predictor.measure_speed([*run_plan.runs.values(), *run_plan.later])
    coming = run_plan.list_coming(records)
    checks.check_splits(coming, caches)
    settings, run_bytes = fit_to_machine(coming, predictor, settings)

    def predict(run: Run, *, done: bool = False) -> PredictedRun:
        is_kept = run.stage == "final" and run.rows == 1
        weight_bytes = 4 * predictor.count_trained(run) if is_kept else 0
        return PredictedRun(run, done, predictor.predict(run), weight_bytes)

    runs = [
        *(predict(run, done=run_id in ended) for run_id, run in run_plan.runs.items()),
        *map(predict, run_plan.later),
    ]
    proposers = dict.fromkeys(filter(None, (method.proposer for method in study.all_methods)))
    every_run = [predicted.run for predicted in runs]
    return Plan(
        study,
        tuple(sorted(runs, key=lambda predicted: STAGES.index(predicted.run.stage))),
        settings,
        prepared.describe_precisions(device),
        searches=tuple(text for p in proposers for text in p.describe(prepared, every_run)),
        too_large=tuple(explain_too_large(coming, predictor, settings)),
        impossible=prepared.refused,
        memory_limits=explain_memory(settings, run_bytes),
    )


def _find_shared_records(
    prepared: PreparedStudy, opened: Store, records: Sequence[Record]
) -> list[Record]:
    """Find what ``run`` will take over from other or earlier studies of the store."""
    from paretune.planning import expand

    study_hash = prepared.study.study_hash
    ended_here = {record.run_id for record in records}
    stored = {
        record.run_id: record
        for entry in opened.list_studies()
        if entry.study_hash != study_hash
        for record in opened.load_records(entry.study_hash, predictions=True)
        if record.run_id not in ended_here
    }
    shared: list[Record] = []
    # Rates that have ended tell which final runs come next, and those may have ended too.
    while stored:
        runs = expand.plan_runs(prepared, [*records, *shared]).runs
        ended = [replace(stored.pop(key), run=run) for key, run in runs.items() if key in stored]
        if not ended:
            break
        shared += ended
    return shared
