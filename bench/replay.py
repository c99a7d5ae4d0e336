"""Replay: studies drawn from stored answers of real runs, whose pool is the truth.

    python bench/replay.py keep STUDY STORE    write the answers of a study's final runs
    python bench/calibration.py measure        draws from bench/replays/*.json beside the generator

A pool holds what many seeds of real models answered to many rows. A drawn study has some of its
seeds (without replacement) and rows (with replacement); the scores of the whole pool are true. What
a pool cannot show is other training sets: all its seeds were trained on one, or its folds on parts
of one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from verdicts.generator import Design, Drawn
from verdicts.outcomes import Truth
from verdicts.studies import MEGABYTES
from verdicts.worlds import Array

from paretune import metrics
from paretune.analysis.cell import Cell
from paretune.analysis.cells import group_into_cells
from paretune.store.record import Predictions
from paretune.verbs.report import load_results

FOLDER = Path(__file__).parent / "replays"
_FREE = ("tfidf",)


@dataclass(frozen=True)
class Pool:
    """Answers of many real runs to the same rows.

    Attributes:
        name: of the file.
        metric: of the task.
        labels: (rows,)
        answers: of each method, (seeds, rows); of a cross-validation (repeats, rows).
        folds: (repeats, rows); None where all runs were trained on one split.
    """

    name: str
    metric: str
    labels: Array
    answers: dict[str, Array]
    folds: Array | None = None

    @property
    def num_folds(self) -> int:
        """Folds of the cross-validation; 0 of a split."""
        return 0 if self.folds is None else int(self.folds.max()) + 1

    def truths(self) -> dict[str, Truth]:
        """Scores of the whole pool, of the runs that trained and of all."""
        score = metrics.get(self.metric).compute
        truths = {}
        for name, runs in self.answers.items():
            every = np.array([score(self.labels.tolist(), run.tolist()) for run in runs])
            trained = [len(set(run.tolist())) > 1 for run in runs]
            truths[name] = Truth(float(every[trained].mean()), float(every.mean()))
        return truths

    def draw(self, design: Design, rng: np.random.Generator) -> Drawn:
        """A study of ``design`` from the pool."""
        rows = rng.integers(len(self.labels), size=design.rows)
        while len(set(self.labels[rows].tolist())) < 2:
            rows = rng.integers(len(self.labels), size=design.rows)
        runs = design.repeats or design.seeds
        answers = {}
        shared = rng.choice(len(next(iter(self.answers.values()))), runs, replace=False)
        for name, pool in self.answers.items():
            # Folds belong to their repeat, so all methods take the same ones.
            chosen = shared if self.folds is not None else rng.permutation(len(pool))[:runs]
            answers[name] = pool[[0]][:, rows] if len(pool) == 1 else pool[chosen][:, rows]
        folds = None if self.folds is None else self.folds[shared][:, rows]
        return Drawn(self.labels[rows], answers, {}, folds)

    def save(self, file: Path) -> None:
        """As JSON, a digit for each answer."""
        form: dict[str, Any] = {
            "metric": self.metric,
            "labels": _digits(self.labels),
            "answers": {
                name: [_digits(run) for run in runs] for name, runs in self.answers.items()
            },
        }
        if self.folds is not None:
            form["folds"] = [_digits(repeat) for repeat in self.folds]
        file.write_text(json.dumps(form, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, file: Path) -> Pool:
        """The inverse of :meth:`save`."""
        form = json.loads(file.read_text(encoding="utf-8"))
        return cls(
            file.stem,
            form["metric"],
            _from_digits([form["labels"]])[0],
            {name: _from_digits(runs) for name, runs in form["answers"].items()},
            _from_digits(form["folds"]) if "folds" in form else None,
        )


def required_phi(pool: Pool, a: str, b: str, repeats: int = 1) -> float:
    """By what the variance over rows must be multiplied, for a pair and so many repeats.

    The variance of the mean difference has a part from rows, and one from seeds and from the folds'
    training sets, seen as the scatter of whole repeats on the same rows. Their sum is divided by
    the variance over rows of one study's differences, as a rule that knows rows only has it. What
    all folds owe to the one data set is not seen here.
    """
    right_a, right_b = (pool.answers[name] == pool.labels for name in (a, b))
    both = min(len(right_a), len(right_b))
    differences = right_a[:both].astype(float) - right_b[:both]
    rows = differences.shape[1]
    scatter = differences.mean(axis=1).var(ddof=1)
    single = differences.var(axis=1, ddof=1).mean()
    shared = differences.mean(axis=0).var(ddof=1)
    # The mean over all repeats still has a share of what is not common to them.
    shared = max(0.0, (both * shared - single) / (both - 1))
    seen = (shared + (single - shared) / repeats) / rows
    return float((shared / rows + scatter / repeats) / seen)


def load_pools() -> list[Pool]:
    """Those that the repository holds."""
    return [Pool.load(file) for file in sorted(FOLDER.glob("*.json"))]


def pool_of(name: str, cells: Iterable[Cell]) -> Pool:
    """The answers of the cells of one task; ``majority`` is left out, for studies add their own."""
    chosen = [c for c in cells if c.name in MEGABYTES or c.name in _FREE]
    answers = {c.method: _answers_of(c) for c in chosen if c.test_answers}
    first = next(c for c in chosen if c.test_answers)
    labels = np.array(first.test_answers[0].label)
    folds = _folds_of(first) if first.design.is_cross_validation else None
    return Pool(name, first.metric, labels, answers, folds)


def _answers_of(cell: Cell) -> Array:
    runs = np.array([part.prediction for part in cell.test_answers])
    return runs[:1] if cell.deterministic else runs


def _folds_of(cell: Cell) -> Array:
    """(repeats, rows): in the order of the merged answers."""
    place = {uid: i for i, uid in enumerate(cell.test_answers[0].uid)}
    folds = np.zeros((len(cell.test_answers), len(place)), dtype=np.int64)
    for record in cell.final:
        outer = record.run.outer
        assert outer is not None
        part: Predictions = record.predictions["test"]
        folds[outer.repeat, [place[uid] for uid in part.uid]] = outer.index
    return folds


def _digits(values: Array) -> str:
    return "".join(str(int(value)) for value in values)


def _from_digits(rows: Iterable[str]) -> Array:
    return np.array([[int(digit) for digit in row] for row in rows])


def keep(study: Path, store: Path, folder: Path = FOLDER) -> list[Path]:
    """Write a pool for each task of a study that has run."""
    results = load_results(study, store)
    tasks: dict[str, list[Cell]] = {}
    for cell in group_into_cells(results.study, results.records):
        tasks.setdefault(cell.task, []).append(cell)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for task, cells in tasks.items():
        crossed = any(cell.design.is_cross_validation for cell in cells)
        name = f"{task}-crossed" if crossed else f"{task}-split"
        files.append(folder / f"{name}.json")
        pool_of(name, cells).save(files[-1])
    return files


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=["keep"])
    parser.add_argument("study", type=Path)
    parser.add_argument("store", type=Path)
    options = parser.parse_args()
    print(*keep(options.study, options.store), sep="\n")
