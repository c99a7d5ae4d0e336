"""A stored full study, raced: what a race would have chosen and taken of its runs.

``bench/calibration/grid.tar.xz`` holds the records and answers, without weights, of the grid of
``bench/grid.yaml`` without RTE, whose rows are not ours to give. It is what ``race.py pack STORE
FILE --task routing-en ...`` wrote.
"""

from __future__ import annotations

import json
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from paretune.analysis.cell import Cell
from paretune.analysis.cells import build_cells, group_into_cells
from paretune.analysis.comparisons import PairwiseComparisons
from paretune.analysis.pareto.recommend import choose
from paretune.analysis.racing import race_budget
from paretune.errors import StoreError
from paretune.planning.prepare import prepare_study
from paretune.planning.race import plan_wanted_runs
from paretune.store import Store
from paretune.store.record import Record
from paretune.study import Study
from paretune.training.caches import ProcessCache
from paretune.verbs.report import load_results

PACKED = Path(__file__).parent / "calibration" / "grid.tar.xz"
PACKED_TASKS = ("routing-en", "paraphrase-en", "follows-en")
BLOBS = ("predictions", "weights")


def set_race(study: Study, race: str) -> Study:
    """The study with or without a race."""
    protocol = study.protocol.model_copy(update={"race": race})
    return study.model_copy(update={"protocol": protocol})


def list_claims(cells: Sequence[Cell]) -> set[tuple[str, str]]:
    """Pairs of methods, the better first, and methods above all baselines."""
    comparisons = PairwiseComparisons(cells)
    claimed = set()
    methods = {c.method for c in cells if not c.baseline}
    for model in dict.fromkeys(c.model for c in cells):
        for pair in comparisons.pairs(model):
            if {pair.a, pair.b} <= methods and pair.standing != "unclear":
                above = pair.standing == "above"
                claimed.add((pair.a, pair.b) if above else (pair.b, pair.a))
    for cell in cells:
        verdict = comparisons.verdict(cell)
        if not cell.baseline and verdict is not None and verdict.above_all:
            claimed.add((cell.method, "baselines"))
    return claimed


class MissingRunsError(Exception):
    """A study asks for runs that the store does not have."""


@dataclass(frozen=True)
class Grid:
    """A full study that has run, and where its data and model are now.

    Attributes:
        records: by run id.
        store: knows the runs' precision and its proposals.
    """

    study: Study
    caches: ProcessCache
    records: Mapping[str, Record]
    store: Store | None = None

    @classmethod
    @contextmanager
    def open(cls, study: Study, store: Path) -> Iterator[Grid]:
        """Read the store, which stays open.

        Raises:
            ParetuneError: it never ran this study, or its data or model are missing.
        """
        results = load_results(study, store)
        records = {record.run_id: record for record in results.records}
        with suppress(StoreError):  # at rates that only a race has chosen, if it ran
            raced = load_results(set_race(results.study, "recommendation"), store)
            records |= {record.run_id: record for record in raced.records}
        with Store.open(store) as opened:
            yield cls(results.study, ProcessCache(), records, opened)

    def replay(self, study: Study, where: str) -> Sequence[Record]:
        """The records that a study is given, all that it asks for at a time, until it asks no more.

        Raises:
            MissingRunsError: it asks for a run that the store does not have.
        """
        known: dict[str, Record] = {}
        prepared = prepare_study(study, self.caches).in_store(self.store, "cpu")
        while True:
            due = plan_wanted_runs(prepared, list(known.values()))
            new = [one for one in due if one.run_id not in known]
            if not new:
                return list(known.values())
            missing = [one for one in new if one.run_id not in self.records]
            if missing:
                name = " x ".join((*missing[0].run.cell, missing[0].run.stage))
                raise MissingRunsError(
                    f"{where}: {len(missing)} runs are not in the store, first {name}: "
                    "run the full study (protocol.race=off) to its end."
                )
            known |= {one.run_id: self.records[one.run_id] for one in new}


def draw_studies(study: Study, draws: int, rng: np.random.Generator) -> Iterator[Study]:
    """Studies of one task each that are parts of a full one, the whole first.

    The others have at least three of its methods, and its seeds in another order, since a race
    begins with the first two. The first seed stays: baselines and costs have it.
    """
    for task in study.tasks:
        yield study.model_copy(update={"tasks": (task,)})
        for _ in range(draws):
            count = int(rng.integers(min(3, len(study.methods)), len(study.methods) + 1))
            chosen = sorted(rng.choice(len(study.methods), count, replace=False))
            first, *later = study.protocol.seeds
            if study.protocol.outer == "split":  # else each seed has a fold, also of the baselines
                later = [int(seed) for seed in rng.permutation(later)]
            protocol = study.protocol.model_copy(update={"seeds": (first, *later)})
            methods = tuple(study.methods[n] for n in chosen)
            yield study.model_copy(
                update={"tasks": (task,), "methods": methods, "protocol": protocol}
            )


def race_grid(grid: Grid, draws: int, seed: int = 19) -> list[dict[str, Any]]:
    """For each study of :func:`draw_studies`, what the race chose and took.

    Raises:
        MissingRunsError: the full study is not in the store.
    """
    rows: list[dict[str, Any]] = []
    for study in draw_studies(grid.study, draws, np.random.default_rng(seed)):
        task = study.tasks[0].key
        plain = set_race(study, "off")
        full = grid.replay(plain, task)
        whole = _cells_of(plain, full)
        raced = set_race(study, "recommendation")
        try:
            ended = grid.replay(raced, task)
        except MissingRunsError:  # it chose another rate after fewer trials
            rows.append({"task": task, "missing": True})
            continue
        cells = _cells_of(raced, ended)
        budget = race_budget(study.limits)
        choices = [choose(own, budget).chosen for own in (whole, cells)]
        names = [chosen and chosen.cell.method for chosen in choices]
        claims = [list_claims(own) for own in (_finish(raced, full, cells), cells)]
        row: dict[str, Any] = {
            "task": task,
            "methods": [method.key for method in study.methods],
            "seeds": list(study.protocol.seeds),
            "full chose": names[0],
            "race chose": names[1],
            "same rates": _list_rates(whole) == _list_rates(cells),
            "claims": [len(own) for own in claims],
            "claims are a subset": claims[1] <= claims[0],
            "seconds": [_seconds_by_stage(own) for own in (full, ended)],
            "runs": [len(full), len(ended)],
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def _list_rates(cells: Sequence[Cell]) -> dict[str, float | None]:
    return {cell.method: cell.rate for cell in cells if not cell.baseline}


def _finish(study: Study, full: Sequence[Record], ended: Sequence[Cell]) -> list[Cell]:
    """The cells of a race had it trained all runs, but for what it left out before the first."""
    left_out = {(c.model, c.method): c.stop for c in ended if c.stop == "limit"}
    return [
        replace(cell, stop=left_out.get((cell.model, cell.method)))
        for cell in build_cells(study, full)
        if cell.final or cell.tuning or cell.cost
    ]


def _cells_of(study: Study, records: Sequence[Record]) -> list[Cell]:
    return [c for c in group_into_cells(study, records) if c.final or c.tuning or c.cost]


def _seconds_by_stage(records: Sequence[Record]) -> dict[str, float]:
    """Of training, by stage; a measurement of costs has none."""
    seconds = {"tune": 0.0, "final": 0.0}
    for record in records:
        if record.run.stage in seconds:
            seconds[record.run.stage] += record.train_seconds or 0.0
    return seconds


def summarise_grid(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line, of all studies."""
    ended = [row for row in rows if "missing" not in row]
    same = [row["full chose"] == row["race chose"] for row in ended]
    parts = []
    for stages in (("tune", "final"), ("tune",), ("final",)):
        full, raced = (
            sum(row["seconds"][side][stage] for row in ended for stage in stages) for side in (0, 1)
        )
        parts.append(f"{'+'.join(stages)} {full / raced:.2f}" if raced else "none")
    like = [row for row in ended if row["same rates"]]
    subset = sum(row["claims are a subset"] for row in like)
    missing = len(rows) - len(ended)
    unstored = f" ({missing} more chose a rate whose final runs are not stored)" if missing else ""
    mean = np.mean(same)
    error = np.sqrt(mean * (1 - mean) / len(ended))
    return (
        f"{len(ended)} races{unstored}, same recommendation {100 * mean:.1f} % (standard error "
        f"{100 * error:.1f}); training seconds full / race: {', '.join(parts)}; same rates in "
        f"{len(like)}, claims a subset in {subset} of these"
    )


def select_tasks(study: Study, names: Sequence[str]) -> Study:
    """The study with some of its tasks; with all where none is named.

    Raises:
        SystemExit: it has no such task.
    """
    tasks = {task.key: task for task in study.tasks}
    for name in names:
        if name not in tasks:
            raise SystemExit(f"{study.study} has no task {name}; it has {', '.join(tasks)}.")
    chosen = tuple(tasks[name] for name in names) or study.tasks
    return study.model_copy(update={"tasks": chosen})


def pack_records(study: Study, records: Sequence[Record], store: Path, file: Path) -> None:
    """Write a store of these records alone, as those of one study, into a file."""
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "store"
        with Store.open(store) as source, Store.open(packed, create=True) as target:
            target.set_settings(
                {f"precision/{key}": v for key, v in source.get_settings("precision/").items()}
            )
            _copy_records(study, records, source, target)
        nobody = partial(tarfile.TarInfo.replace, uid=0, gid=0, uname="", gname="")
        with tarfile.open(file, "w:xz", preset=9) as archive:
            for path in sorted(packed.rglob("*")):
                if path.is_file() and (path.name == "study.db" or "blobs" in path.parts):
                    archive.add(path, path.relative_to(packed), filter=nobody)


def _copy_records(study: Study, records: Sequence[Record], source: Store, target: Store) -> None:
    by_id = {record.run_id: record for record in records}
    target.save_study(study.study_hash, study.study, "", study.canonical_form())
    target.add_runs(study.study_hash, [(own.run_id, own.run) for own in by_id.values()])
    while (claim := target.claim("pack", study.study_hash)) is not None:
        record = by_id[claim.run_id]
        hashes: Mapping[str, Any] = {k: v for k, v in record.result.items() if k in BLOBS}
        result = {k: v for k, v in record.result.items() if k not in BLOBS}
        blobs = {name: source.read_blob(sha256) for name, sha256 in hashes.items()}
        target.finish(claim, result, record.measured, blobs)


@contextmanager
def open_packed(store: Path) -> Iterator[Path]:
    """The folder of a store; of a packed one, unpacked until the end."""
    if store.is_dir():
        yield store
        return
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(store) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)
