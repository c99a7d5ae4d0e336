"""Made-up records of outer cross-validation: the answers of a seed, cut into its folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from paretune.store.record import Predictions, Record
from paretune.study import OuterFold, Study
from support import fake_records as fake


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
    study: Study, method: str, quality: float, folds: int, *, rates: Sequence[float] = (1e-3,)
) -> list[Record]:
    """Final records of a cell, one for each seed: its fold of the answers of its repeat."""
    records = []
    for position, seed in enumerate(study.protocol.seeds):
        outer = OuterFold.at(position, folds)
        whole = fake.answers(quality, seed=outer.repeat + int(1000 * quality))
        run = fake.make_run(
            study, "final", method, seed, learning_rate=rates[position % len(rates)], outer=outer
        )
        records.append(fake.record(run, {"test": cut(whole, outer)}))
    return records


def without_fold(records: Sequence[Record], position: int) -> list[Record]:
    """The records, one of which diverged before it had answers."""
    failed = records[position]
    lost = replace(failed, predictions={}, result={"outcome": "diverged"})
    return [*records[:position], lost, *records[position + 1 :]]
