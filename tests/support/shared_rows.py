"""A study whose methods were trained on shares of the labelled rows, without training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paretune.store.record import Record
from paretune.study import Study
from support import fake_records as fake

ROWS_LEVELS = {
    0.25: {"lora": 0.6, "full": 0.58, "head_only": 0.6, "tfidf": 0.58, "majority": 0.5},
    0.5: {"lora": 0.85, "full": 0.6, "head_only": 0.65, "tfidf": 0.6, "majority": 0.5},
    1.0: {"lora": 0.95, "full": 0.93, "head_only": 0.7, "tfidf": 0.62, "majority": 0.5},
}


def shared_rows(tasks: Sequence[str] = ("topics",), rows: int = 250) -> tuple[Study, list[Record]]:
    """A study in five folds whose methods were trained on shares of the labelled rows too."""
    protocol = {"preset": "passes", "until": "complete", "outer": 5, "seeds": [1, 2, 3, 4, 5]}
    both = fake.study(
        tasks=[fake.own_task(name) for name in tasks],
        methods=["lora", "full"],
        protocol={**protocol, "rows": [0.25, 0.5], "reference": "lora"},
    )
    records = []
    for place, task in enumerate(both.tasks):
        for share, levels in ROWS_LEVELS.items():
            for drawn in fake.draw_records(both, levels, np.random.default_rng(place), rows=rows):
                run = drawn.run.model_copy(update={"task": task})
                if run.stage == "cost":
                    continue
                if share < 1:
                    run = run.on_rows(share)
                records.append(fake.record(run, drawn.predictions, drawn.outcome))
    return both, records
