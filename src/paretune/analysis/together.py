"""Groups that older records do not name, from newer records of the same examples.

Since when the groups of a user's own column are resampled as a whole, new answers name them. A
store begun before holds answers that do not, and neither could be paired with the other. The data
is the same, so what one record knows of its examples holds for all that answered them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from paretune.store.record import Predictions, Record
from paretune.study import Answer

Examples = tuple[str, tuple[str, ...], tuple[Answer, ...]]
"""Task, uids and labels: what says that two runs answered the same."""


def with_groups(records: Iterable[Record]) -> list[Record]:
    """The records, each with the groups that any of them names of the same examples.

    Where two name different groups (the column was changed in between), nothing is filled in.
    """
    given = list(records)
    known: dict[Examples, set[tuple[int, ...]]] = {}
    for record in given:
        for part in record.predictions.values():
            if part.cluster:
                known.setdefault(_examples(record, part), set()).add(part.cluster)
    return [_filled(record, known) for record in given] if known else given


def _filled(record: Record, known: dict[Examples, set[tuple[int, ...]]]) -> Record:
    told: dict[str, Predictions] = {}
    for name, part in record.predictions.items():
        groups = known.get(_examples(record, part), set())
        if not part.cluster and len(groups) == 1:
            told[name] = replace(part, cluster=next(iter(groups)))
    return replace(record, predictions={**record.predictions, **told}) if told else record


def _examples(record: Record, part: Predictions) -> Examples:
    return record.run.task.key, part.uid, part.label
