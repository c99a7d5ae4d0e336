"""``plan``: every run with its predicted time and memory, before anything starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from paretune.study import Run, Study
from paretune.study.run import is_trial
from paretune.terminal.plural import pluralise
from paretune.verbs import study_input
from paretune.verbs.options import Devices, Flag, Online, StoreFolder, StudyLike, Threads, Workers
from paretune.verbs.result import Result
from paretune.verbs.workers import (
    describe_devices,
    explain_memory,
    explain_too_large,
    resolve_workers,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from paretune.data.finding import Finding
    from paretune.execution.worker_settings import WorkerSettings
    from paretune.planning.prepare import PreparedStudy
    from paretune.store import Store
    from paretune.store.record import Record
    from paretune.terminal.rich_console import Terminal

TITLES = ("model", "method", "runs", "done", "time", "peak memory")


@dataclass(frozen=True, repr=False)
class PredictedRun(Result):
    """One run, whether it has ended, and what it takes.

    Attributes:
        seconds: on one worker, alone; None if nothing is known to predict them from.
        peak_bytes: above the process before the model is loaded; None if it needs no model.
        basis: what the seconds are predicted from.
        memory_basis: what the bytes are predicted from.
        weight_bytes: size of the weights that a final run trains; 0 for all others.
        fleet_key: equal for runs that can train together; empty if it trains alone.
        fleet_capacity: how many of them can train together on one backbone.
        fleet_by_default: whether they do so without ``--fleet``, since it is faster.
        undecided: a race may yet find that it is not needed.
    """

    json_fields: ClassVar = ("run", "done", "seconds", "peak_bytes", "basis", "memory_basis")

    run: Run
    done: bool
    seconds: float | None
    peak_bytes: int | None
    basis: str
    memory_basis: str
    weight_bytes: int = 0
    fleet_key: str = ""
    fleet_capacity: int = 1
    fleet_by_default: bool = False
    undecided: bool = False

    def describe(self) -> Iterable[RenderableType]:
        """One line."""
        from paretune.execution.progress import describe_run

        state = f"{_format_time(self.seconds)}, {_format_peak([self])}"
        yield f"{describe_run(self.run)}: {'done' if self.done else state}"


@dataclass(frozen=True, repr=False)
class Plan(Result):
    """All runs of a study, in the order in which they will run.

    Attributes:
        study: its name.
        runs: each with what identifies it, done, seconds (alone on one worker), peak_bytes, basis,
            memory_basis.
        worker_settings: of the workers of each device.
        precision: of the models.
        memory_limits: how memory limits the workers, as sentences.
        searches: for each search, what it will try, and what its selection part can tell.
        too_large: a sentence with numbers for each model and method that cannot fit into memory;
            with any, the study is not run.
        impossible: methods that cannot train on a model as it is held; these cells have no runs.
        given_up: runs that a race has decided not to train.
    """

    json_fields: ClassVar = (
        *("study", "runs", "done", "seconds_left", "workers", "threads", "devices", "precision"),
        *("too_large", "impossible", "race", "searches"),
    )

    study: Study
    runs: tuple[PredictedRun, ...]
    worker_settings: tuple[WorkerSettings, ...]
    precision: str
    memory_limits: tuple[str, ...] = ()
    too_large: tuple[str, ...] = ()
    impossible: tuple[Finding, ...] = ()
    given_up: tuple[PredictedRun, ...] = ()
    searches: tuple[str, ...] = ()

    def describe(self) -> Iterable[RenderableType]:
        """A line for each cell, and what all of them take."""
        yield from self.list_cells()
        yield from self._totals()

    def show(
        self,
        out: Terminal,
        *,
        every: Flag = False,
    ) -> None:
        """Print it.

        Args:
            every: A line for every run, not for every cell.
        """
        runs = (line for predicted in self.runs for line in predicted.describe())
        for line in (*(runs if every else self.list_cells()), *self._totals()):
            out.print(line, soft_wrap=True)

    def list_cells(self) -> Iterator[str]:
        """One line for each cell, under its task; names are never cut."""
        from paretune.methods.core.titles import title_of

        rows: list[tuple[str, ...]] = []
        for (task, model, method), runs in self.cells.items():
            stages = Counter(predicted.run.stage for predicted in runs)
            counts = "+".join(str(stages[stage]) for stage in ("tune", "final", "cost"))
            done = f"{sum(predicted.done for predicted in runs)}/{len(runs)}"
            time = _format_time(total_seconds(runs))
            rows.append((task, model, title_of(method), counts, done, time, _format_peak(runs)))
        widths = [
            max(map(len, column)) for column in zip(TITLES, *(r[1:] for r in rows), strict=True)
        ]
        previous = None
        for task, *row in rows:
            for cells in [row] if task == previous else [TITLES, row]:
                if cells is TITLES:
                    yield task
                padded = [
                    cell.ljust(width) if place < 2 else cell.rjust(width)
                    for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
                ]
                yield ("  " + "  ".join(padded)).rstrip()
            previous = task
        yield "Runs: learning rates tried + final + cost measurements. Time: with one worker."

    def _totals(self) -> Iterator[str]:
        yield from study_input.describe_test_files(self.study)
        yield from (f"Not possible: {finding}" for finding in self.impossible)
        yield from (f"Search: {sentence}" for sentence in self.searches)
        yield from (f"Does not fit: {sentence}" for sentence in self.too_large)
        yield self.summary
        yield from self.memory_limits
        if (race := self.race) is not None:
            spared, undecided = (
                _format_time(race[name]) for name in ("spared_seconds", "undecided_seconds")
            )
            yield (
                f"A race to the {self.study.protocol.race}: "
                f"{pluralise(race['spared_runs'], 'run')} spared so far ({spared}, one worker); it "
                f"may spare {race['undecided_runs']} more ({undecided})."
            )
        if costs := [p for p in self.runs if p.run.stage == "cost" and not p.done]:
            seconds, bound = total_seconds(costs), self.study.protocol.cost_seconds
            about = "" if seconds is None else f", about {_format_time(seconds)}"
            yield (
                f"This includes {pluralise(len(costs), 'cost measurement')}, one at a time{about}: "
                f"training steps are timed for at most {bound:g} s each (protocol.cost_seconds), "
                f"inference for {bound / 2:g} s."
            )
        if self.fleets:
            yield self._describe_fleets()
        yield self._describe_weights()
        yield "Early stopping may shorten this, a busy machine lengthen it."
        last = self.runs[-1]
        yield f"Times are estimated from {last.basis}, memory from {last.memory_basis}."

    @property
    def summary(self) -> str:
        """How many runs are left, how long they take, and on what, as a sentence."""
        seconds = self.seconds_left
        left = f"about {_format_time(seconds)} left"
        if seconds is None:
            left = "time left not known yet"
        return (
            f"{pluralise(len(self.runs), 'run')}, {self.done} done; {left} with "
            f"{pluralise(self.workers, 'worker')} of {pluralise(self.threads, 'thread')} on "
            f"{describe_devices(self.worker_settings)} in {self.precision}."
        )

    @property
    def race(self) -> dict[str, Any] | None:
        """None without a race; else ``spared_runs`` that it will not train and ``undecided_runs``
        that it may not, with their seconds, one after another.
        """
        if self.study.protocol.race == "off":
            return None
        undecided = [predicted for predicted in self.runs if predicted.undecided]
        return {
            "spared_runs": len(self.given_up),
            "spared_seconds": total_seconds(self.given_up),
            "undecided_runs": len(undecided),
            "undecided_seconds": total_seconds(undecided),
        }

    def _describe_fleets(self) -> str:
        """How many train together."""
        by_default = sum(len(runs) for runs in self.fleets if all(r.fleet_by_default for r in runs))
        optional = sum(map(len, self.fleets)) - by_default
        most = max(min(len(runs), max(r.fleet_capacity for r in runs)) for runs in self.fleets)
        left = len(self.runs) - self.done
        if not by_default:
            return (
                f"With --fleet {most}, {optional} of {left} would train together, {most} at once."
            )
        rest = f"; with --fleet {most}, {optional} more" if optional else ""
        return (
            f"{by_default} of {left} train together on one backbone, at most {most} at once{rest}."
        )

    def _describe_weights(self) -> str:
        """Trained weights, so that nobody learns only afterwards which are not kept."""
        from paretune.reporting.text.formatting import format_bytes

        best_bytes = sum(max(run.weight_bytes for run in runs) for runs in self.cells.values())
        all_bytes = sum(run.weight_bytes for run in self.runs)
        budget_bytes = self.study.protocol.keep_weights
        best, budget = format_bytes(best_bytes), format_bytes(budget_bytes)
        if all_bytes <= budget_bytes:
            return f"Trained weights: {format_bytes(all_bytes)} for all final runs; all are kept."
        if best_bytes <= budget_bytes:
            return (
                f"Trained weights: {format_bytes(all_bytes)} for all final runs, {best} for the "
                f"best of each method; protocol.keep_weights keeps {budget}, the best ones first."
            )
        too_large = sum(
            max(run.weight_bytes for run in runs) > budget_bytes for runs in self.cells.values()
        )
        takes = "takes" if too_large == 1 else "take"
        alone = (
            f" {pluralise(too_large, 'method')} alone {takes} more than that." if too_large else ""
        )
        return (
            f"Trained weights: {best} for the best run of each method, and protocol.keep_weights "
            f"keeps {budget}, the recommended first; `export --train-again` trains the others once "
            f"more.{alone}"
        )

    @property
    def workers(self) -> int:
        """How many processes train at once."""
        return sum(settings.device_workers for settings in self.worker_settings)

    @property
    def threads(self) -> int:
        """Of each worker."""
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

        None where it is not known of a run that is left.
        """
        from paretune.planning.predicted_cost import worker_bytes

        left = [run for run in self.runs if not run.done]
        seconds = total_seconds([run for run in left if run.run.stage == "cost"])
        for run in left:
            if run.run.stage == "cost":
                continue
            if run.seconds is None or seconds is None:
                return None
            run_bytes = worker_bytes(run.peak_bytes)
            seconds += run.seconds / sum(
                settings.count_fitting(run_bytes) for settings in self.worker_settings
            )
        return seconds

    @property
    def fleets(self) -> tuple[tuple[PredictedRun, ...], ...]:
        """The runs to come that may train together, two at least each time."""
        fleets: dict[str, list[PredictedRun]] = {}
        for run in self.runs:
            if run.fleet_key and not run.done:
                fleets.setdefault(run.fleet_key, []).append(run)
        return tuple(tuple(runs) for runs in fleets.values() if len(runs) > 1)

    @property
    def cells(self) -> Mapping[tuple[str, str, str], tuple[PredictedRun, ...]]:
        """The runs by task, model and method, in the study's order of tasks."""
        cells: dict[tuple[str, str, str], list[PredictedRun]] = {}
        for run in self.runs:
            task, model, method = run.run.cell
            if is_trial(run.run):  # each configuration is a cell of its own
                method = f"{run.run.method.name} (trials)"
            cells.setdefault((task, model, method), []).append(run)
        order = [task.key for task in self.study.tasks]
        ordered = sorted(cells, key=lambda cell: order.index(cell[0]))
        return {cell: tuple(cells[cell]) for cell in ordered}


def _format_time(seconds: float | None) -> str:
    from paretune.execution.progress import format_duration

    return "not known" if seconds is None else format_duration(seconds)


def _format_peak(runs: Iterable[PredictedRun]) -> str:
    """The highest peak of all; a dash where none needs a model."""
    from paretune.reporting.text.formatting import format_bytes

    peaks = [predicted.peak_bytes for predicted in runs if predicted.peak_bytes is not None]
    return format_bytes(max(peaks)) if peaks else "-"


def total_seconds(runs: Iterable[PredictedRun]) -> float | None:
    """Seconds of all, one after another; None if those of one are not known."""
    seconds = [predicted.seconds for predicted in runs]
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
    from paretune.execution.memory_budget import fit_workers, fleet_budget_bytes
    from paretune.execution.worker_settings import DEFAULT_FLEET_SIZE, STAGES
    from paretune.measuring.machine import MachineSpeed
    from paretune.planning import checks
    from paretune.planning.predicted_cost import CostPredictor
    from paretune.planning.prepare import prepare_study
    from paretune.search import race
    from paretune.search.auto import describe_searches
    from paretune.store import Store
    from paretune.training.fleet import fleet_key

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
            records = study_input.load_records(study, opened)
            records += _find_shared_records(prepared, opened, records)
        run_plan = race.plan_runs(prepared, records)
    ended = {record.run_id for record in records}
    cost_seconds = study.protocol.cost_seconds
    predictor = CostPredictor(caches, MachineSpeed.measure(), records, device, cost_seconds)
    coming = run_plan.list_coming(records)
    checks.check_splits(coming, caches)
    run_bytes = predictor.predict_worker_bytes(coming)
    settings = fit_workers(settings, run_bytes)
    budget_bytes = fleet_budget_bytes(settings[0].device_workers, device)

    def predict(run: Run, *, done: bool, undecided: bool = False) -> PredictedRun:
        cost = predictor.predict(run)
        capacity, by_default = predictor.predict_fleet_size(run, DEFAULT_FLEET_SIZE, budget_bytes)
        return PredictedRun(
            run,
            done,
            cost.seconds,
            cost.peak_bytes,
            cost.basis,
            cost.memory_basis,
            weight_bytes=predictor.predict_weight_bytes(run) if run.stage == "final" else 0,
            fleet_key=fleet_key(run) if capacity > 1 else "",
            fleet_capacity=capacity,
            fleet_by_default=by_default,
            undecided=undecided,
        )

    raced = study.protocol.race != "off"
    runs = [
        *(predict(run, done=run_id in ended) for run_id, run in run_plan.runs.items()),
        *(predict(run, done=False, undecided=raced) for run in run_plan.undecided),
    ]
    return Plan(
        study=study,
        runs=tuple(sorted(runs, key=lambda predicted: STAGES.index(predicted.run.stage))),
        worker_settings=settings,
        memory_limits=explain_memory(settings, run_bytes),
        precision=prepared.describe_precisions(),
        too_large=tuple(explain_too_large(coming, predictor, settings)),
        impossible=prepared.refused,
        given_up=tuple(predict(run, done=False) for run in run_plan.given_up),
        searches=tuple(describe_searches(prepared, [predicted.run for predicted in runs])),
    )


def _find_shared_records(
    prepared: PreparedStudy, opened: Store, records: Sequence[Record]
) -> list[Record]:
    """What ``run`` will take over from other studies of the store, or from earlier versions."""
    from paretune.search import race

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
        runs = race.plan_runs(prepared, [*records, *shared]).runs
        ended = [replace(stored.pop(key), run=run) for key, run in runs.items() if key in stored]
        if not ended:
            break
        shared += ended
    return shared
