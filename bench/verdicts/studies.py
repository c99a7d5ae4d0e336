"""Answers as the package sees them: records of ended runs, grouped into cells."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from paretune.analysis.cell import Cell
from paretune.analysis.cells import group_into_cells
from paretune.analysis.passes import count_pass_runs
from paretune.methods import baselines
from paretune.store.record import Predictions, Record
from paretune.study import MethodSpec, ModelSpec, OuterFold, Run, Study
from paretune.study.run import Stage
from verdicts.worlds import Array, Drawn

MEGABYTES = {
    "full": 1890.0,
    "lora": 870.0,
    "loha": 905.0,
    "prompt": 940.0,
    "head_only": 512.0,
}
"""Peak memory in training, of e5-small at 128 tokens; what a recommendation minimises."""
UNMEASURED_MEGABYTES = 900.0
"""Of the methods that are in no world of recommendations."""
FREE_MEGABYTES = 50.0
"""What a baseline without a model counts as, where costs are averaged."""
_NO_MODEL = ("majority", "tfidf")
_ids = itertools.count()


def build_cells(drawn: Drawn, metric: str) -> list[Cell]:
    """The cells of a drawn study, with ``majority`` and the memory of every method."""
    return group_into_cells(*build_study(drawn, metric))


def build_study(
    drawn: Drawn, metric: str, reference: str | None = None, until: str | None = None
) -> tuple[Study, list[Record]]:
    """A drawn study and all its records.

    Args:
        until: of a study in passes, as ``protocol.until``; None: of ``preset: trials``.
    """
    methods = tuple(name for name in drawn.answers if name not in _NO_MODEL)
    runs = max(len(answers) for answers in drawn.answers.values())
    shape = _Shape(methods, metric, runs, drawn.num_folds, reference, until)
    rows = _Rows(drawn)
    records = list(_costs(shape))
    for name, answers in (*drawn.answers.items(), ("majority", _majority(drawn, metric))):
        if drawn.folds is None:
            parts: list[Any] = [(None, rows.take(row)) for row in answers]
        else:
            # What draws nothing answers alike in every repeat.
            by_repeat = np.broadcast_to(answers, drawn.folds.shape)
            parts = [
                (position, rows.take(row, inside))
                for repeat, row in enumerate(by_repeat)
                for position, inside in rows.folds_of(repeat)
            ]
        for number, (position, part) in enumerate(parts):
            run = _make_run(shape, name, number + 1, position)
            records.append(_record(run, part))
    return _make_study(shape), records


def play_passes(study: Study, records: Sequence[Record]) -> list[Cell]:
    """The cells of a study in passes when it has ended, given the records of all its runs."""
    costs = [record for record in records if record.run.stage == "cost"]
    finals = [record for record in records if record.run.stage == "final"]
    size = count_pass_runs(
        finals[0].run.outer.folds if finals[0].run.outer else 0, study.protocol.seeds
    )
    counts = {record.run.cell: size for record in finals}
    while True:
        ended = [r for r in finals if r.run.seed <= counts[r.run.cell]]
        cells = group_into_cells(study, [*costs, *ended])
        expected = {(c.task, c.model, c.method): max(c.expected_runs, size) for c in cells}
        if all(expected[key] <= count for key, count in counts.items()):
            return cells
        counts = {key: max(count, expected[key]) for key, count in counts.items()}


class _Shape(NamedTuple):
    """What the runs of many drawn studies have in common."""

    methods: tuple[str, ...]
    metric: str
    runs: int
    folds: int
    reference: str | None
    until: str | None


class _Rows:
    """The rows of a study, of which runs answer all or some."""

    def __init__(self, drawn: Drawn) -> None:
        self._drawn = drawn
        self._uid = np.array(_uid(len(drawn.labels)), dtype=object)
        self._all = np.arange(len(drawn.labels))

    def folds_of(self, repeat: int) -> Iterator[tuple[int, Array]]:
        """Position of the fold's seed, and the rows inside."""
        assert self._drawn.folds is not None
        folds = self._drawn.folds[repeat]
        for index in range(self._drawn.num_folds):
            yield repeat * self._drawn.num_folds + index, np.flatnonzero(folds == index)

    def take(self, answers: Array, inside: Array | None = None) -> Predictions:
        """The answers to these rows, or to all."""
        rows = self._all if inside is None else inside
        clusters = self._drawn.clusters
        return Predictions(
            tuple(self._uid[rows]),
            tuple(self._drawn.labels[rows].tolist()),
            tuple(answers[rows].tolist()),
            (),
            () if clusters is None else tuple(clusters[rows].tolist()),
        )


def _majority(drawn: Drawn, metric: str) -> Any:
    constant = drawn.labels.mean() if metric == "r2" else np.bincount(drawn.labels).argmax()
    return np.full((1, len(drawn.labels)), constant)


@functools.lru_cache(maxsize=64)
def _uid(rows: int) -> tuple[str, ...]:
    return tuple(f"row-{i}" for i in range(rows))


@functools.lru_cache(maxsize=64)
def _make_study(shape: _Shape) -> Study:
    task = {
        "name": "drawn",
        "kind": "regression" if shape.metric == "r2" else "classification",
        "train": "train.csv",
        "test": "test.csv",
        "text": "text",
        "label": "label",
        "metric": shape.metric,
    }
    return Study.parse(
        {
            "study": "drawn",
            "tasks": [task],
            "models": ["m"],
            "methods": [m for m in shape.methods if m not in baselines.NAMES],
            "protocol": {
                "seeds": list(range(1, shape.runs * max(shape.folds, 1) + 1)),
                "outer": shape.folds or "split",
                "reference": shape.reference,
                **({"preset": "passes", "until": shape.until} if shape.until else {"folds": 1}),
            },
        }
    )


@functools.lru_cache(maxsize=4096)
def _make_run(
    shape: _Shape, name: str, seed: int, position: int | None = None, stage: Stage = "final"
) -> Run:
    study = _make_study(shape)
    free = name in _NO_MODEL
    return Run(
        stage=stage,
        task=study.tasks[0],
        model=ModelSpec(name="-") if free else study.models[0],
        method=MethodSpec(name=name),
        learning_rate=None if free else 1e-3,
        seed=seed,
        outer=None if position is None else OuterFold.at(position, shape.folds),
        training=study.training,
    )


def _record(run: Run, part: Predictions) -> Record:
    result: Any = {"outcome": "ok", "steps": 80, "scores": {}}
    return Record(str(next(_ids)), run, "done", None, None, result, {}, {"test": part})


@functools.lru_cache(maxsize=64)
def _costs(shape: _Shape) -> tuple[Record, ...]:
    records = []
    for name in shape.methods:
        run = _make_run(shape, name, 1, stage="cost")
        megabytes = MEGABYTES.get(name, UNMEASURED_MEGABYTES)
        measured: Any = {"phases": {"train": {"peak_bytes": int(megabytes * 2**20)}}}
        result: Any = {"outcome": "ok"}
        records.append(Record(f"cost-{name}", run, "done", None, None, result, measured, {}))
    return tuple(records)
