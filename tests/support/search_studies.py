"""Studies of three methods whose results are made up, for what asks for runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from paretune.search.expand import PlannedRun
from paretune.store.record import Record
from support import fake_records as fake

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
