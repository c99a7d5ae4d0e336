"""Cells and studies of made-up records: recommendations, folds of outer cross-validation, races."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from paretune.analysis.cell import Cell
from paretune.analysis.cells import group_into_cells
from paretune.analysis.statistics.intervals import Interval, score_difference
from paretune.analysis.statistics.scores import score_runs
from paretune.planning.prepare import PlannedRun
from paretune.store.record import Predictions, Record, RunStatus
from paretune.study import OuterFold, Study
from support import fake_records as fake


def topic_cells(
    study: Study, records: Iterable[Record] | None = None, states: Iterable[RunStatus] = ()
) -> list[Cell]:
    """The cells of the task ``topics``; of all records of the study by default."""
    records = fake.whole(study) if records is None else records
    return [c for c in group_into_cells(study, records, states) if c.task == "topics"]


def mostly_collapsed(tfidf: float) -> tuple[Study, list[Record]]:
    """Full fine-tuning and LoRA with four seeds each, seven of which answer a constant."""
    study = fake.study(methods=["full", "lora"], protocol={"seeds": [1, 2, 3, 4], "folds": 1})
    records = [*fake.cell(study, "majority", None), *fake.cell(study, "tfidf", tfidf)]
    for name in ("full", "lora"):
        for seed in study.protocol.seeds:
            learned = (name, seed) == ("lora", 4)
            part = fake.answers(0.99, seed=seed) if learned else fake.constant()
            run = fake.make_run(study, "final", name, seed)
            records.append(fake.record(run, {"test": part}, result={"steps": 60}))
    return study, records


def take(part: Predictions, places: Sequence[int]) -> Predictions:
    """Some rows of a part; clusters and questions numbered by their first appearance."""

    def renumber(groups: tuple[int, ...]) -> tuple[int, ...]:
        numbers: dict[int, int] = {}
        return tuple(numbers.setdefault(groups[i], len(numbers)) for i in places) if groups else ()

    return Predictions(
        uid=tuple(part.uid[i] for i in places),
        label=tuple(part.label[i] for i in places),
        prediction=tuple(part.prediction[i] for i in places),
        scores=tuple(part.scores[i] for i in places),
        cluster=renumber(part.cluster),
        question=renumber(part.question),
        segment={name: tuple(v[i] for i in places) for name, v in part.segment.items()},
    )


def cut(part: Predictions, outer: OuterFold) -> Predictions:
    """The rows of a fold: every n-th one, from another start in each repeat."""
    size = len(part.uid)
    return take(
        part, [i for i in range(size) if (i // (outer.repeat + 1)) % outer.folds == outer.index]
    )


def crossed_cell(
    study: Study, method: str, quality: float, folds: int, **changes: Any
) -> list[Record]:
    """Final records of a cell, one for each seed: its fold of the answers of its repeat."""
    records = []
    for position, seed in enumerate(study.protocol.seeds):
        outer = OuterFold.at(position, folds)
        whole = fake.answers(quality, seed=outer.repeat + int(1000 * quality))
        run = fake.make_run(study, "final", method, seed, outer=outer, **changes)
        records.append(fake.record(run, {"test": cut(whole, outer)}))
    return records


def without_fold(records: Sequence[Record], position: int) -> list[Record]:
    """The records, one of which diverged before it had answers."""
    failed = records[position]
    lost = replace(failed, predictions={}, result={"outcome": "diverged"})
    return [*records[:position], lost, *records[position + 1 :]]


def raced(methods: Sequence[str] = (), **changes: Any) -> Study:
    """One task, five seeds on a published split unless ``protocol`` says otherwise."""
    protocol = {"seeds": [1, 2, 3, 4, 5], "folds": 1, "outer": "split", "race": "recommendation"}
    return fake.study(
        methods=list(methods or ("full", "lora", "prompt", "ia3")),
        tasks=[fake.own_task("topics")],
        protocol={**protocol, **changes.pop("protocol", {})},
        **changes,
    )


def draw_records(
    study: Study,
    levels: Mapping[str, float],
    rng: np.random.Generator,
    *,
    rows: int = 120,
    seed_sd: float | Mapping[str, float] = 0.02,
    failing: float = 0.0,
) -> list[Record]:
    """All final runs and costs of a full study; a seed that fails answers one label to all."""
    labels = rng.integers(0, 2, rows)
    ease = rng.normal(0, 0.15, rows)
    folds = study.protocol.outer if isinstance(study.protocol.outer, int) else 0
    records = []
    for name, level in levels.items():
        free = name in ("majority", "tfidf")
        sd = seed_sd if isinstance(seed_sd, float) else seed_sd.get(name, 0.02)
        for position, seed in enumerate(study.protocol.seeds):
            if free and position >= max(folds, 1):
                break
            chance = np.clip(level + ease + (0 if free else rng.normal(0, sd)), 0, 1)
            answer = np.where(rng.random(rows) < chance, labels, 1 - labels)
            failed = not free and rng.random() < failing
            if name == "majority" or failed:
                answer = np.zeros(rows, int)
            outer = OuterFold.at(position, folds) if folds else None
            inside = np.flatnonzero(np.arange(rows) % folds == outer.index) if outer else None
            part = _part(labels, answer, inside)
            run = fake.make_run(study, "final", name, seed, outer=outer)
            records.append(fake.record(run, {"test": part}, "collapsed" if failed else "ok"))
        if not free:
            run = fake.make_run(study, "cost", name, study.protocol.seeds[0])
            records.append(fake.cost(run, fake.MEGABYTES.get(name, 880.0)))
    return records


def _part(labels: Any, answer: Any, inside: Any) -> Predictions:
    rows = range(len(labels)) if inside is None else inside.tolist()
    return Predictions(
        tuple(f"row-{i}" for i in rows),
        tuple(int(labels[i]) for i in rows),
        tuple(int(answer[i]) for i in rows),
        (),
    )


def difference(a: Sequence[Predictions], b: Sequence[Predictions], metric: Any) -> Interval:
    """Score of ``a`` minus score of ``b``, each with one :class:`Predictions` per seed."""
    return score_difference(score_runs(a, metric), score_runs(b, metric))


LEVELS = {"full": 0.95, "lora": 0.8, "prompt": 0.55, "head_only": 0.55, "tfidf": 0.5}
ROWS = 80


def end(planned: PlannedRun, levels: Mapping[str, float] = LEVELS) -> Record:
    """What the run leaves: always the same. The highest rate is 0.4 worse, others are equal."""
    run, name = planned.run, planned.run.method.name
    if run.stage == "cost":
        record = fake.cost(run, {"full": 1900.0, "lora": 900.0, "prompt": 950.0}.get(name, 500.0))
        return replace(record, run_id=planned.run_id)
    level = levels.get(name, 0.5)
    if run.stage == "tune" and run.learning_rate is not None and run.learning_rate > 2e-3:
        level -= 0.4
    part = "test" if run.stage == "final" else "selection"
    rng = np.random.default_rng([run.seed, run.fold, len(name), 0 if run.outer is None else 1])
    labels = np.arange(ROWS) % 2
    answer = np.where(rng.random(ROWS) < level + rng.normal(0, 0.01), labels, 1 - labels)
    if name == "majority":
        answer = np.zeros(ROWS, int)
    fold = 0 if run.outer is None else run.outer.index
    uid = tuple(f"{part}-{run.fold}-{fold}-{i}" for i in range(ROWS))
    answers = fake.Predictions(uid, tuple(labels.tolist()), tuple(answer.tolist()), ())
    return replace(fake.record(run, {part: answers}), run_id=planned.run_id)


def finals(records: Sequence[Record]) -> Counter[str]:
    return Counter(r.run.method.name for r in records if r.run.stage == "final")
