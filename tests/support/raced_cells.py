"""Raced studies of made-up runs: normal seeds, answers on the same rows, costs of every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paretune.analysis.cell import Cell
from paretune.analysis.cells import build_cells
from paretune.store.record import Predictions, Record
from paretune.study import OuterFold, Study
from support import fake_records as fake


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


def cells_of(study: Study, records: Sequence[Record]) -> list[Cell]:
    """The cells of its task."""
    return build_cells(study, records)
