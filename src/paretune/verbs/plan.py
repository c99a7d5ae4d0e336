"""``plan``: every run with its predicted time and memory, before anything starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from paretune.study import Run, Study
from paretune.study.run import is_trial
from paretune.terminal.notebook import html_lines, html_table
from paretune.terminal.plural import pluralise
from paretune.verbs import study_input
from paretune.verbs.workers import (
    WorkerOptions,
    describe_devices,
    explain_memory,
    resolve_workers,
)

if TYPE_CHECKING:
    from paretune.data.finding import Finding
    from paretune.execution.worker_settings import WorkerSettings
    from paretune.planning.prepare import PreparedStudy
    from paretune.store import Store
    from paretune.store.record import Record


@dataclass(frozen=True)
class PredictedRun:
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


_TITLES = ("model", "method", "runs", "done", "time", "peak memory")
_MOST_LINES = 20
"""Lines of cells in the text of a plan."""


@dataclass(frozen=True, repr=False)
class Plan:
    """All runs of a study, in the order in which they will run.

    Attributes:
        devices: the workers of each device.
        memory_limits: how memory limits them, as sentences.
        searches: for each search, what it will try, and what its selection part can tell.
        too_large: a sentence with numbers for each model and method that cannot fit into memory;
            with any, the study is not run.
        impossible: methods that cannot train on a model as it is held; these cells have no runs.
        given_up: runs that a race has decided not to train.
    """

    study: Study
    runs: tuple[PredictedRun, ...]
    devices: tuple[WorkerSettings, ...]
    precision: str
    memory_limits: tuple[str, ...] = ()
    too_large: tuple[str, ...] = ()
    impossible: tuple[Finding, ...] = ()
    given_up: tuple[PredictedRun, ...] = ()
    searches: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """The cells and what is left, on one screen."""
        lines = list(self.list_cells())
        if len(lines) > _MOST_LINES:
            lines = [
                *lines[:_MOST_LINES],
                f"... and {pluralise(len(lines) - _MOST_LINES, 'more line')}",
            ]
        return "\n".join([*lines, self.summary, *self.too_large])

    def _repr_html_(self) -> str:
        header = ("task", *_TITLES)
        return html_table(header, self._rows()) + html_lines([self.summary, *self.too_large])

    def list_cells(self) -> Iterable[str]:
        """One line for each cell, under its task; names are never cut."""
        rows = self._rows()
        widths = [
            max(len(row[i + 1]) for row in [("", *_TITLES), *rows]) for i in range(len(_TITLES))
        ]
        previous = None
        for task, *cells in rows:
            if task != previous:
                yield task
                yield _format_row(_TITLES, widths)
            previous = task
            yield _format_row(cells, widths)
        yield "Runs: learning rates tried + final + cost measurements. Time: with one worker."

    def _rows(self) -> list[tuple[str, ...]]:
        from paretune.methods.core.titles import title_of

        rows: list[tuple[str, ...]] = []
        for (task, model, method), runs in self.cells.items():
            stages = Counter(run.run.stage for run in runs)
            rows.append(
                (
                    *(task, model, title_of(method)),
                    "+".join(str(stages[stage]) for stage in ("tune", "final", "cost")),
                    f"{sum(run.done for run in runs)}/{len(runs)}",
                    format_time(total_seconds(runs)),
                    format_peak(runs),
                )
            )
        return rows

    @property
    def summary(self) -> str:
        """How many runs are left, how long they take, and on what, as a sentence."""
        seconds = self.seconds_left
        left = "time left not known yet"
        if seconds is not None:
            left = f"about {format_time(seconds)} left"
        return (
            f"{pluralise(len(self.runs), 'run')}, {self.done} done; {left} with "
            f"{pluralise(self.workers, 'worker')} of "
            f"{pluralise(self.devices[0].threads, 'thread')} on "
            f"{describe_devices(self.devices)} in {self.precision}."
        )

    @property
    def workers(self) -> int:
        """How many processes train at once."""
        return sum(settings.device_workers for settings in self.devices)

    @property
    def done(self) -> int:
        """How many runs have ended."""
        return sum(run.done for run in self.runs)

    @property
    def seconds_left(self) -> float | None:
        """Wall clock: runs train side by side, costs are measured one after the other.

        None where it is not known of a run that is left.
        """
        left = [run for run in self.runs if not run.done]
        costs = total_seconds([run for run in left if run.run.stage == "cost"])
        shared = [
            None if run.seconds is None else run.seconds / self._count_side_by_side(run)
            for run in left
            if run.run.stage != "cost"
        ]
        together = [seconds for seconds in shared if seconds is not None]
        known = costs is not None and len(together) == len(shared)
        return sum(together) + (costs or 0.0) if known else None

    def _count_side_by_side(self, run: PredictedRun) -> int:
        """How many runs like this one train at once, on all devices."""
        from paretune.planning.predicted_cost import worker_bytes

        run_bytes = worker_bytes(run.peak_bytes)
        return sum(settings.count_fitting(run_bytes) for settings in self.devices)

    @property
    def fleets(self) -> tuple[tuple[PredictedRun, ...], ...]:
        """The runs to come that may train together, two at least each time."""
        fleets: dict[str, list[PredictedRun]] = {}
        for run in self.runs:
            if run.fleet_key and not run.done:
                fleets.setdefault(run.fleet_key, []).append(run)
        return tuple(tuple(runs) for runs in fleets.values() if len(runs) > 1)

    @property
    def weight_bytes(self) -> tuple[int, int]:
        """Of trained weights: those of one final run of every cell, and those of all final runs."""
        every = [max(expected.weight_bytes for expected in runs) for runs in self.cells.values()]
        return sum(every), sum(expected.weight_bytes for expected in self.runs)

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


def format_time(seconds: float | None) -> str:
    """A duration; what stands where it is not known."""
    from paretune.execution.progress import format_duration

    return "not known" if seconds is None else format_duration(seconds)


def format_peak(runs: Iterable[PredictedRun]) -> str:
    """The highest peak of all; a dash where none needs a model."""
    from paretune.reporting.text.formatting import format_bytes

    peaks = [run.peak_bytes for run in runs if run.peak_bytes is not None]
    return format_bytes(max(peaks)) if peaks else "-"


def _format_row(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Names to the left, numbers to the right."""
    padded = [
        cell.ljust(width) if i < 2 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return ("  " + "  ".join(padded)).rstrip()


def total_seconds(runs: Iterable[PredictedRun]) -> float | None:
    """Seconds of all, one after another; None if those of one are not known."""
    seconds = [run.seconds for run in runs]
    known = [one for one in seconds if one is not None]
    return sum(known) if len(known) == len(seconds) else None


def plan(
    study: Study | Path | str,
    *,
    store: Path | str | None = None,
    **options: Unpack[WorkerOptions],
) -> Plan:
    """Predict a study without starting or writing anything.

    Args:
        study: a study, its file, or the name of a shipped one.
        store: folder of the results; ``studies/NAME`` by default. Runs that ended there are done,
            whichever study or version of this one they were trained for.
        options: ``workers``, ``threads``, ``devices``, ``online`` (:class:`WorkerOptions`).

    Raises:
        ParetuneError: the study, its data, a model or a method cannot be used.
    """
    # Before torch is imported: a typing error costs no seconds.
    study = study_input.resolve_study(study)
    from paretune.execution.fleet_claims import fleet_budget_bytes
    from paretune.execution.memory_budget import fit_workers
    from paretune.execution.worker_settings import DEFAULT_FLEET_SIZE
    from paretune.measuring.speed import MachineSpeed
    from paretune.planning import preflight
    from paretune.planning.predicted_cost import CostPredictor
    from paretune.planning.prepare import describe_refused, prepare_study
    from paretune.search import race
    from paretune.search.auto import describe_searches
    from paretune.store import Store
    from paretune.training.fleet.capacity import fleet_key
    from paretune.verbs.memory_fit import explain_too_large

    folder = study_input.store_folder(study, store)
    workers, offline = resolve_workers(**options), not options.get("online", False)
    device = workers[0].device
    records: list[Record] = []
    prepared = prepare_study(study, offline=offline, audited=True)
    caches = prepared.caches
    with ExitStack() as stack:
        opened = None
        if (folder / "study.db").is_file():
            opened = stack.enter_context(Store.open(folder))
        # While the store is open: it knows what `precision: auto` means there.
        prepared = prepared.in_store(opened, device)
        if opened is not None:
            records = study_input.load_records(study, opened)
            records += _find_shared_records(prepared, opened, records)
        ready, waiting = race.plan_runs(prepared, records)
        raced = study.protocol.race != "off"
        given_up = race.plan_race(prepared, records).given_up if raced else ()
    ended = {record.run_id for record in records}
    cost_seconds = study.protocol.cost_seconds
    predictor = CostPredictor(caches, MachineSpeed.measure(), records, device, cost_seconds)
    by_id = {planned.run_id: planned.run for planned in ready}  # searches may share a trial
    coming = [run for run_id, run in by_id.items() if run_id not in ended] + waiting
    preflight.check_splits(coming, caches)
    run_bytes = predictor.predict_worker_bytes(coming)
    workers = fit_workers(workers, run_bytes)
    budget_bytes = fleet_budget_bytes(workers[0].device_workers, device)

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

    order = {"tune": 0, "final": 1, "cost": 2}
    runs = [(run, run_id in ended, False) for run_id, run in by_id.items()]
    runs += [(run, False, raced) for run in waiting]
    return Plan(
        study=study,
        runs=tuple(
            predict(run, done=done, undecided=undecided)
            for run, done, undecided in sorted(runs, key=lambda one: order[one[0].stage])
        ),
        devices=workers,
        memory_limits=explain_memory(workers, run_bytes),
        precision=prepared.describe_precisions(),
        too_large=tuple(
            explain_too_large(coming, predictor, [settings.device for settings in workers])
        ),
        impossible=tuple(describe_refused(prepared.refused)),
        given_up=tuple(predict(run, done=False) for run in given_up),
        searches=tuple(describe_searches(prepared, [run for run, *_ in runs])),
    )


def _find_shared_records(
    prepared: PreparedStudy, opened: Store, records: Sequence[Record]
) -> list[Record]:
    """What ``run`` will take over from other studies of the store, or from earlier versions."""
    from paretune.search import race

    study_hash = prepared.study.study_hash
    others = [e.study_hash for e in opened.list_studies() if e.study_hash != study_hash]
    known = {record.run_id for record in records}
    stored = {
        record.run_id: record
        for other in others
        for record in opened.load_records(other, predictions=True)
        if record.run_id not in known
    }
    shared: list[Record] = []
    # Rates that have ended tell which final runs come next, and those may have ended too.
    while stored:
        ready, _ = race.plan_runs(prepared, [*records, *shared])
        ended = [
            replace(stored.pop(one.run_id), run=one.run) for one in ready if one.run_id in stored
        ]
        if not ended:
            break
        shared += ended
    return shared
