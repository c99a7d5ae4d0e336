"""Which metric the records of a task call ``primary``."""

from __future__ import annotations

from collections.abc import Iterable

from paretune import metrics
from paretune.store.record import Record

DEFAULT = "accuracy"
"""Where records name no metric that is known."""


def find_primary_metric(records: Iterable[Record]) -> str | None:
    """The name of the primary metric of one task's records; None where none of ours fits.

    A study file may name it; otherwise it is the one whose recorded value equals ``primary`` in
    every record. So a report needs no task definitions, which may have changed or gone since.
    """
    possible = [metric for metric in metrics.built_in() if metric.selectable]
    recorded = False
    for record in records:
        if record.run.task.metric is not None:
            return record.run.task.metric
        for scores in record.result.get("scores", {}).values():
            if scores and scores.get("primary") is not None:
                recorded = True
                primary = float(scores["primary"])
                values = [(metric, metric.read(scores)) for metric in possible]
                possible = [m for m, v in values if v is not None and abs(v - primary) < 1e-9]
    return possible[0].name if possible and recorded else None
