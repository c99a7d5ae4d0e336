"""Gathers answers to a task's unlabelled rows: the covariate of each pair of cells."""

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
"""An outer fold, or None under one split, and its test rows."""


class UnlabelledAnswers:
    """The answers of cells to test rows and, behind these, to the unlabelled rows.

    Attributes:
        cells: cells by name.
        uids: identifiers of the unlabelled rows; empty where no run has answered any.
        answers: answers of each run, (rows,).
        probabilities: by fold and cell, the probability of each label and of none, averaged over
            its runs, (rows, labels + 1).
        totals: sums of ``probabilities`` by fold.
    """

    def __init__(self, cells: Mapping[str, Cell]) -> None:
        """Gather the answers of the runs that trained."""
        records = [r for cell in cells.values() for r in cell.trained if PART in r.predictions]
        counts = Counter(record.predictions[PART].uid for record in records)
        self.cells = cells
        self.uids = max(counts, key=counts.__getitem__, default=())
        self.answers: dict[str, Array] = {}
        tables: dict[Fold, dict[str, list[Array]]] = {}
        for name, cell in cells.items():
            for record in filter(self.has_answered, cell.trained):
                parts = (record.predictions["test"], record.predictions[PART])
                predicted = [answer for part in parts for answer in part.prediction]
                self.answers[record.run_id] = np.array(predicted, dtype=int)
                # A constant answer to every row is no evidence on any row.
                if cell.name not in TRIVIAL:
                    scores = np.array([row for part in parts for row in part.scores])
                    table = np.pad(softmax(scores, axis=1), [(0, 0), (0, 1)])
                    tables.setdefault(_fold_of(record), {}).setdefault(name, []).append(table)
        self.probabilities = {
            fold: {name: np.mean(runs, axis=0) for name, runs in of_cells.items()}
            for fold, of_cells in tables.items()
        }
        self.totals = {fold: sum(of.values()) for fold, of in self.probabilities.items()}

    def has_answered(self, record: Record) -> bool:
        """Return whether a run has answered the unlabelled rows."""
        part: Predictions | None = record.predictions.get(PART)
        return part is not None and part.uid == self.uids

    def covary(self, a: str, b: str, scores: tuple[RunScores, RunScores]) -> Covariate | None:
        """Compute the covariate of a pair; None where a side or all further cells lack answers.

        Args:
            a: name of a cell.
            b: name of the other cell.
            scores: scores of both on common rows.
        """
        runs = [run for name in (a, b) for run in self.cells[name].trained]
        if not all(map(self.has_answered, runs)):
            return None
        (first, of_a), (second, of_b) = (
            self.measure_side(self.cells[name], score, (a, b))
            for name, score in zip((a, b), scores, strict=True)
        )
        if not first.any() and not second.any():
            return None
        unlabelled = of_a - of_b - (of_a - of_b).mean()
        clusters = runs[0].predictions[PART].cluster
        if clusters:
            unlabelled = np.bincount(clusters, unlabelled) * (1 + max(clusters)) / len(clusters)
        return Covariate(first - second, unlabelled, len(self.uids))

    def measure_side(
        self, cell: Cell, score: RunScores, pair: tuple[str, str]
    ) -> tuple[Array, Array]:
        """Average over runs the probability that cells outside the pair give to a cell's answers.

        A run in whose fold none of these cells has answered counts as 0 on all rows.

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
                tables = self.probabilities.get(_fold_of(record), {})
                of_pair = [tables[name] for name in pair if name in tables]
                if len(tables) == len(of_pair):
                    continue
                chosen = self.answers[record.run_id]
                at = np.arange(len(chosen)), chosen
                support = self.totals[_fold_of(record)][at] - sum(table[at] for table in of_pair)
                support /= len(tables) - len(of_pair)
                mask, of_rest = sources[:, 0] == number, support[-len(self.uids) :]
                labelled[place, mask] = support[sources[mask, 1]] - of_rest.mean()
                unlabelled += of_rest * mask.mean() / len(passes)
        sums = np.stack([labelled, np.ones_like(labelled)], axis=-1)
        covariate = replace(score, tables=sums, from_sums=ratio_of_sums, credits=None)
        return np.asarray(covariate.values.mean(axis=0)), unlabelled


def _fold_of(record: Record) -> Fold:
    return record.run.outer, record.predictions["test"].uid
