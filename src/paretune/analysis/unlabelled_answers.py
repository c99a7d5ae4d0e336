"""What the runs of a task say of its unlabelled rows: the covariate of each pair of cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy.special import softmax

from paretune.analysis.cell import Cell
from paretune.analysis.statistics.scores import RunScores, ratio_of_sums
from paretune.analysis.statistics.unlabelled import Covariate
from paretune.methods.baselines import TRIVIAL
from paretune.metrics import Array
from paretune.store.record import Predictions, Record
from paretune.study import OuterFold

PART = "unlabelled"
Fold = tuple[OuterFold | None, tuple[str, ...]]
"""An outer fold, None under one split, and its test rows."""


class UnlabelledAnswers:
    """What cells answer on test rows and on the unlabelled rows.

    Attributes:
        cells: by name.
        uids: of the unlabelled rows; empty where no run has answered any.
        probabilities: by fold and cell, of each label and of none, the mean over its runs: (test
            rows and then unlabelled rows, labels + 1).
    """

    def __init__(self, cells: Mapping[str, Cell]) -> None:
        """Gather the answers of the runs that trained."""
        records = [r for cell in cells.values() for r in cell.trained if PART in r.predictions]
        counts = Counter(record.predictions[PART].uid for record in records)
        self.cells = cells
        self.uids = max(counts, key=counts.__getitem__, default=())
        tables: dict[Fold, dict[str, list[Array]]] = {}
        for name, cell in cells.items():
            # What says the same of every row says nothing of one.
            for record in filter(self.has_answered, () if cell.name in TRIVIAL else cell.trained):
                of_cells = tables.setdefault(_fold_of(record), {})
                parts = (record.predictions["test"], record.predictions[PART])
                scores = np.array([row for part in parts for row in part.scores])
                of_cells.setdefault(name, []).append(
                    np.pad(softmax(scores, axis=1), [(0, 0), (0, 1)])
                )
        self.probabilities = {
            fold: {name: np.mean(runs, axis=0) for name, runs in of_cells.items()}
            for fold, of_cells in tables.items()
        }

    def has_answered(self, record: Record) -> bool:
        """Whether a run has answered the unlabelled rows."""
        part: Predictions | None = record.predictions.get(PART)
        return part is not None and part.uid == self.uids

    def covary(self, a: str, b: str, scores: tuple[RunScores, RunScores]) -> Covariate | None:
        """The covariate of a pair; None where a side or all further cells have no such answers.

        Args:
            a: name of a cell.
            b: of another.
            scores: theirs, on common rows.
        """
        further = {
            fold: np.mean([table for name, table in tables.items() if name not in (a, b)], axis=0)
            for fold, tables in self.probabilities.items()
            if tables.keys() - {a, b}
        }
        runs = [run for name in (a, b) for run in self.cells[name].trained]
        if not further or not all(map(self.has_answered, runs)):
            return None
        (first, of_a), (second, of_b) = (
            self.measure_side(self.cells[name], score, further)
            for name, score in zip((a, b), scores, strict=True)
        )
        unlabelled = of_a - of_b - (of_a - of_b).mean()
        clusters = runs[0].predictions[PART].cluster
        if clusters:
            unlabelled = np.bincount(clusters, unlabelled) * (1 + max(clusters)) / len(clusters)
        return Covariate(first - second, unlabelled, len(self.uids))

    def measure_side(
        self, cell: Cell, score: RunScores, further: Mapping[Fold, Array]
    ) -> tuple[Array, Array]:
        """The mean probability of a cell's answers, over its runs.

        A run in whose fold no further cell has answered counts as 0 on all rows.

        Returns:
            (units,) of the labelled rows, less the mean over the unlabelled ones by the same runs;
            (unlabelled rows,).
        """
        passes = [*cell.answers_by_seed.values()][: len(score.tables)]
        labelled, unlabelled = np.zeros((len(passes), len(score.uid))), np.zeros(len(self.uids))
        for place, answers in enumerate(passes):
            row_of = {uid: row for row, uid in enumerate(answers.predictions.uid)}
            sources = answers.sources[[row_of[uid] for uid in score.uid]]
            for number in np.unique(sources[:, 0]):
                record = answers.runs[number]
                table = further.get(_fold_of(record))
                if table is None:
                    continue
                of_test, of_rest = (
                    [*record.predictions[part].prediction] for part in ("test", PART)
                )
                chosen = table[np.arange(len(table)), of_test + of_rest]
                mask = sources[:, 0] == number
                on_unlabelled = chosen[len(of_test) :]
                labelled[place, mask] = chosen[sources[mask, 1]] - on_unlabelled.mean()
                unlabelled += on_unlabelled * mask.mean() / len(passes)
        sums = np.stack([labelled, np.ones_like(labelled)], axis=-1)
        covariate = replace(score, tables=sums, from_sums=ratio_of_sums, credits=None)
        return np.asarray(covariate.values.mean(axis=0)), unlabelled


def _fold_of(record: Record) -> Fold:
    return record.run.outer, record.predictions["test"].uid
