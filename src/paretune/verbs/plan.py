"""``plan``: every run with its predicted time and memory, before anything starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.planning.worker_count import WorkerCount, worker_bytes
from paretune.study import Run, Study
from paretune.verbs import study_input

if TYPE_CHECKING:
    from paretune.store.record import Record


@dataclass(frozen=True)
class PredictedRun:
    """One run, whether it has ended, and what it takes.

    ``seconds`` on one worker, alone, None where nothing tells them; ``peak_bytes`` above the
    process before the model, None where the run needs no model; ``basis``: what the seconds rest
    on, ``memory_basis``: what the bytes do. ``fleet_capacity``: how many runs like it may train
    together on
    one backbone, of which ``fleet_key`` (a name) are left; ``fleet_by_default``: without
    ``--fleet``, as they
    are faster together. ``weight_bytes``: of what a final run trains, 0 for all others.
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


@dataclass(frozen=True)
class Plan:
    """All runs of a study, in the order in which they will run."""

    study: Study
    runs: tuple[PredictedRun, ...]
    worker_plan: WorkerCount
    threads: int
    device: str
    precision: str

    @property
    def workers(self) -> int:
        """How many train at once."""
        return self.worker_plan.count

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
        side_by_side = self.worker_plan.count_fitting
        shared = [
            None
            if run.seconds is None
            else run.seconds / side_by_side(worker_bytes(run.peak_bytes))
            for run in left
            if run.run.stage != "cost"
        ]
        together = [seconds for seconds in shared if seconds is not None]
        known = costs is not None and len(together) == len(shared)
        return sum(together) + (costs or 0.0) if known else None

    @property
    def fleets(self) -> tuple[tuple[PredictedRun, ...], ...]:
        """The runs to come that may train together, two at least each time."""
        found: dict[str, list[PredictedRun]] = {}
        for run in self.runs:
            if run.fleet_key and not run.done:
                found.setdefault(run.fleet_key, []).append(run)
        return tuple(tuple(runs) for runs in found.values() if len(runs) > 1)

    @property
    def weight_bytes(self) -> tuple[int, int]:
        """Of trained weights: those of one final run of every cell, and those of all final runs."""
        every = [max(expected.weight_bytes for expected in runs) for runs in self.cells.values()]
        return sum(every), sum(expected.weight_bytes for expected in self.runs)

    @property
    def cells(self) -> Mapping[tuple[str, str, str], tuple[PredictedRun, ...]]:
        """The runs by task, model and method, in the study's order of tasks."""
        found: dict[tuple[str, str, str], list[PredictedRun]] = {}
        for expected in self.runs:
            found.setdefault(expected.run.cell, []).append(expected)
        order = [task.key for task in self.study.tasks]
        ordered = sorted(found, key=lambda cell: order.index(cell[0]))
        return {cell: tuple(found[cell]) for cell in ordered}


def total_seconds(runs: Iterable[PredictedRun]) -> float | None:
    """What they take in all, one after another; None where it is not known of one."""
    known = [run.seconds for run in runs]
    told = [seconds for seconds in known if seconds is not None]
    return sum(told) if len(told) == len(known) else None


def plan(
    study: Study | Path | str,
    *,
    store: Path | str | None = None,
    workers: int | None = None,
    threads: int = 1,
    device: str = "auto",
    online: bool = False,
) -> Plan:
    """Predict a study without starting, making or keeping anything.

    Args:
        study: a study, its file, or the name of a shipped one.
        store: folder of the results; ``studies/NAME`` by default. What ended there is known.
        workers: processes that train at once; as many as cores and memory allow by default.
        threads: of each worker.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` ...
        online: models and data may be fetched from the hub.

    Raises:
        ParetuneError: the study, its data, a model or a method cannot be used.
    """
    given = study_input.resolve_study(
        study
    )  # before torch is imported: a slip of the pen costs no seconds
    from paretune.execution.fleet_claims import fleet_budget_bytes
    from paretune.execution.local import DEFAULT_FLEET_SIZE
    from paretune.measuring.devices import resolve_device
    from paretune.measuring.speed import measure_matmul_speed
    from paretune.planning import preflight
    from paretune.planning.pending import plan_pending_runs
    from paretune.planning.predicted_cost import CostPredictor
    from paretune.planning.worker_count import choose_worker_count
    from paretune.store import Store
    from paretune.training.fleet.capacity import fleet_key

    folder = study_input.store_folder(given, store)
    device = resolve_device(device)
    records: list[Record] = []
    if (folder / "study.db").is_file():
        with Store.open(folder) as opened:
            context = preflight.make_context(opened, device, offline=not online)
            records = study_input.load_records(given, opened)
    else:
        context = preflight.make_context(None, device, offline=not online)
    ready, waiting = plan_pending_runs(given, context, records)
    ended = {record.run_id for record in records}
    cost_seconds = given.protocol.cost_seconds
    predictor = CostPredictor(
        context,
        preflight.select_matmul_speeds(measure_matmul_speed()),
        records,
        device,
        cost_seconds,
    )
    coming = [p.run for p in ready if p.run_id not in ended] + waiting
    needs = [
        worker_bytes(predictor.predict_peak_bytes(run)) for run in coming if run.stage != "cost"
    ]
    employed = (
        WorkerCount(workers, workers) if workers else choose_worker_count(needs, device, threads)
    )
    budget = fleet_budget_bytes(employed.count, device)

    def expected(run: Run, *, done: bool) -> PredictedRun:
        found = predictor.predict(run)
        seats, unasked = predictor.predict_fleet_size(run, DEFAULT_FLEET_SIZE, budget)
        return PredictedRun(
            run,
            done,
            found.seconds,
            found.peak_bytes,
            found.basis,
            found.memory_basis,
            predictor.predict_weight_bytes(run) if run.stage == "final" else 0,
            fleet_key(run) if seats > 1 else "",
            seats,
            unasked,
        )

    order = {"tune": 0, "final": 1, "cost": 2}
    runs = [(p.run, p.run_id in ended) for p in ready] + [(run, False) for run in waiting]
    return Plan(
        study=given,
        runs=tuple(
            expected(run, done=done)
            for run, done in sorted(runs, key=lambda pair: order[pair[0].stage])
        ),
        worker_plan=employed,
        threads=threads,
        device=device,
        precision=context.describe_precisions(given),
    )
