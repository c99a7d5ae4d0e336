"""How probable the right answers were: a verdict of its own, beside that of the scores.

Two methods that answer equally well may differ in the probabilities that they give to the right
answers, and a method that answers more examples correctly may give them lower ones. So nothing here
enters the verdicts, ranks and recommendations of the scores. Everything is computed from what
records keep (:mod:`paretune.objectives.likelihood`).

Every pair on one model, baselines included, is compared by the mean log-likelihood: the mean over
examples, of translations over the reference's tokens. As of scores, runs that trained count,
p-values are those of :func:`paretune.analysis.pairwise_ranks.compare_all_pairs`, and one run of a
method that draws its seed has no verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.comparable_scores import keep_comparable
from paretune.analysis.pairwise_comparisons import find_raced_pairs
from paretune.analysis.pairwise_ranks import Pair, compare_all_pairs
from paretune.analysis.statistics.bootstrap_score import BootstrapScore, bootstrap_sums
from paretune.analysis.statistics.seed_variance import NO_PRIOR
from paretune.metrics import Array
from paretune.objectives import Objective
from paretune.objectives.likelihood import ExampleLikelihood, NoLikelihood
from paretune.store.record import Predictions, Record

NO_PROBABILITIES = NoLikelihood("this kind of task defines no probabilities")
NO_SHARES = NoLikelihood("no probabilities of the labels are stored beside the generated texts")
NO_ANSWERS = NoLikelihood("no run that trained has left answers")


def example_likelihood(record: Record, objective: Objective) -> ExampleLikelihood | NoLikelihood:
    """How probable one run made the right answers, example by example of its test part."""
    if objective.likelihood is None:
        return NO_PROBABILITIES
    if not record.predictions.get("test"):
        return NO_ANSWERS
    parts = [
        record.predictions[name] for name in ("selection", "test") if name in record.predictions
    ]
    if objective.predicts_labels and not all(len(own) for part in parts for own in part.scores):
        return NO_SHARES
    selection = None if record.run.selection == "test" else record.predictions.get("selection")
    return objective.likelihood(selection, record.predictions["test"])


@dataclass(frozen=True)
class CellLikelihood:
    """Means over the seeds and test examples of a cell, and the runs that they are of.

    Attributes:
        log_likelihood: nats an example, of translations a token; higher is better.
        brier: lower is better; None where answers are no labels.
        reason: why there is no likelihood; empty where there is one.
    """

    cell: Cell
    log_likelihood: BootstrapScore | None = None
    brier: BootstrapScore | None = None
    runs: Mapping[str, ExampleLikelihood] = field(default_factory=dict)
    reason: str = ""

    @property
    def is_one_run(self) -> bool:
        """Whether it is of one run of several possible ones, so that how they differ is unknown."""
        fixed = self.cell.deterministic or self.cell.design.is_cross_validation
        return len(self.runs) == 1 and not fixed


def cell_likelihood(cell: Cell) -> CellLikelihood:
    """The likelihood of the runs whose answers the cell's score is computed from."""
    answers = cell.answers_by_seed
    if not answers:
        return CellLikelihood(cell, reason=NO_ANSWERS.reason)
    records = [record for record in cell.trained if _seed_key(record) in answers]
    runs: dict[str, ExampleLikelihood] = {}
    by_seed: dict[int, list[tuple[Predictions, ExampleLikelihood]]] = {}
    for record in records:
        likelihood = example_likelihood(record, cell.objective)
        if isinstance(likelihood, NoLikelihood):
            return CellLikelihood(cell, reason=likelihood.reason)
        runs[record.run_id] = likelihood
        by_seed.setdefault(_seed_key(record), []).append((record.predictions["test"], likelihood))

    def score(
        values: Callable[[ExampleLikelihood], Array], bounds: tuple[float, float]
    ) -> BootstrapScore:
        # As in the answers, a row that a repeat lacks is one of the next repeat that has it.
        seeds = list(answers)
        turns = [[*seeds[place:], *seeds[:place]] for place in range(len(seeds))]
        tables = [
            _align(part, [run for seed in turn for run in by_seed[seed]], values)
            for turn, part in zip(turns, answers.values(), strict=True)
        ]
        parts = tuple(answers.values())
        return bootstrap_sums(parts, tables, _mean, bounds, cell.design, cell.fold_of_rows)

    has_brier = all(one.brier is not None for one in runs.values())
    is_density = any(one.deviation is not None for one in runs.values())
    return CellLikelihood(
        cell,
        score(lambda one: one.log_likelihood, (-np.inf, np.inf if is_density else 0.0)),
        score(lambda one: np.asarray(one.brier), (0.0, 2.0)) if has_brier else None,
        runs,
    )


class LikelihoodComparisons:
    """All pairs of one task's cells by likelihood; see the module."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        """Args: the cells of one task."""
        self.likelihoods = tuple(map(cell_likelihood, cells))
        self._models = dict.fromkeys(c.model for c in cells if c.model != NO_MODEL) or (NO_MODEL,)

    @cached_property
    def pairs(self) -> Mapping[str, tuple[Pair, ...]]:
        """By model every pair on it, in the cells' order; those without a likelihood left out."""
        return {model: tuple(self._compare_on(model)) for model in self._models}

    def _compare_on(self, model: str) -> Iterable[Pair]:
        on_model = {
            one.cell.method: one
            for one in self.likelihoods
            if one.cell.model in (model, NO_MODEL) and one.log_likelihood is not None
        }
        scores = keep_comparable((name, one.log_likelihood) for name, one in on_model.items())
        baselines = {name for name, one in on_model.items() if one.cell.baseline}
        race = find_raced_pairs({name: one.cell for name, one in on_model.items()})
        if race is not None:  # what scores differ by says nothing of likelihoods
            race = replace(race, prior=NO_PRIOR)
        for pair in compare_all_pairs(scores, baselines, race):
            if any(on_model[name].is_one_run for name in (pair.a, pair.b)):
                yield replace(pair, withheld="one run")
            elif race is not None and race.incomplete & {pair.a, pair.b}:
                yield replace(pair, withheld="stopped")
            else:
                yield pair


def _seed_key(record: Record) -> int:
    """As :attr:`Cell.answers_by_seed` has it: the seed, in cross-validation the repeat."""
    return record.run.seed if record.run.outer is None else record.run.outer.repeat


def _align(
    answers: Predictions,
    parts: Sequence[tuple[Predictions, ExampleLikelihood]],
    values: Callable[[ExampleLikelihood], Array],
) -> Array:
    """Values and weights in the order of ``answers``, (examples, 2); the first part with a row."""
    rows = {
        uid: row
        for part, likelihood in reversed(parts)
        for uid, row in zip(
            part.uid, np.stack([values(likelihood), likelihood.weight], axis=1), strict=True
        )
    }
    return np.stack([rows[uid] for uid in answers.uid])


def _mean(sums: Array) -> Array:
    """Of sums of values and weights (..., 2)."""
    return np.asarray(sums[..., 0] / sums[..., 1])
