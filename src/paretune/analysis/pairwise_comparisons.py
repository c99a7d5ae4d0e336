"""Which differences between the cells of a task are clear: every pair is decided here, once.

The report's verdicts and ranks, ``recommend`` and ``compare`` all read these comparisons, so they
cannot contradict one another. A pair is clear if its corrected p-value is under 0.05. P-values are
corrected (Holm 1979) over a family, and each pair belongs to one:

- a method and a baseline: all baselines of that method;
- two methods on one model: all pairs of that model's methods;
- the linear probe (or the untuned model) and a baseline without a model: all of the former's;
- two baselines without a model: all pairs of those.

Failed seeds count with the lowest score (:mod:`paretune.analysis.score_with_failures`). P-values
are those of :mod:`paretune.analysis.statistics.conservative_difference`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from paretune.analysis.baseline_comparison import (
    BaselineComparison,
    Verdict,
    standing_of,
    verdict_of,
)
from paretune.analysis.cells import NO_MODEL, Cell
from paretune.analysis.pairwise_ranks import Pair, RankRange, compare_all_pairs, flip, rank_ranges
from paretune.analysis.score_with_failures import score_with_failures, scores_on_model
from paretune.analysis.statistics.conservative_difference import conservative_difference
from paretune.analysis.statistics.multiple_testing import holm_correction
from paretune.analysis.statistics.score_interval import Interval
from paretune.methods.baselines import WITH_MODEL


class PairwiseComparisons:
    """All pairs of one task's cells, and the verdicts and ranks that follow."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        """Compare all cells on one model, with each other and with the baselines."""
        self._cells = cells
        models = dict.fromkeys(c.model for c in cells if c.model != NO_MODEL) or (NO_MODEL,)
        self._scores = {model: scores_on_model(cells, model) for model in models}
        self._pairs = {model: self._compare_on(model) for model in models}

    def pairs(self, model: str) -> tuple[Pair, ...]:
        """Every pair on one model, the baselines without a model included, in the cells' order."""
        return self._pairs.get(model, ())

    def compare(self, a: Cell, b: Cell) -> Pair | None:
        """``a`` minus ``b``; None if they are on different models or share no examples."""
        for model, pairs in self._pairs.items():
            if not {a.model, b.model} <= {model, NO_MODEL}:
                continue
            for pair in pairs:
                if (pair.a, pair.b) == (a.method, b.method):
                    return pair
                if (pair.a, pair.b) == (b.method, a.method):
                    return flip(pair)
        return None

    def verdict(self, cell: Cell, format_name: Callable[[str], str] = str) -> Verdict | None:
        """``cell`` compared with its baselines; None without a score or without a model.

        Args:
            cell: of the task.
            format_name: formats the names of baselines.
        """
        if cell.bootstrap is None or cell.model == NO_MODEL:
            return None
        if score_with_failures(cell) is None:
            return Verdict("none", (), note="no verdict: a failed seed has no score in this metric")
        comparisons, missing = [], []
        for other in _baselines_of(cell, self._cells):
            pair = self.compare(cell, other)
            if pair is None:
                missing.append(format_name(other.method))
            else:
                name = format_name(other.method)
                comparisons.append(BaselineComparison(name, pair.difference, pair.p_holm))
        return verdict_of(comparisons, missing)

    def ranks(self, model: str) -> dict[str, RankRange]:
        """The possible ranks of each method of a model among its methods, without baselines."""
        methods = {c.method for c in self._cells if c.model == model and not c.baseline}
        names = [name for name in self._scores.get(model, ()) if name in methods]
        return rank_ranges(names, [p for p in self.pairs(model) if {p.a, p.b} <= methods])

    def find_clearly_below(self, best: Cell, others: Iterable[Cell]) -> list[Cell]:
        """The cells of ``others`` that ``best`` is clearly above.

        Cells on other models form no pair with ``best``; they are compared with it here, corrected
        (Holm) over themselves.
        """
        below: list[Cell] = []
        other_models: list[tuple[Cell, Interval]] = []
        best_score = score_with_failures(best)
        for other in others:
            if (pair := self.compare(best, other)) is not None:
                below += [other] if pair.standing == "above" else []
                continue
            score = score_with_failures(other)
            if best_score and score and score.uid == best_score.uid:
                other_models.append((other, conservative_difference(best_score, score)))
        corrected = holm_correction([difference.p for _, difference in other_models])
        for (other, difference), p in zip(other_models, corrected, strict=True):
            below += [other] if standing_of(difference, p) == "above" else []
        return below

    def _compare_on(self, model: str) -> tuple[Pair, ...]:
        cells = {c.method: c for c in self._cells if c.model in (model, NO_MODEL)}
        return compare_all_pairs(self._scores[model], lambda a, b: _family_of(cells[a], cells[b]))


def _baselines_of(cell: Cell, cells: Sequence[Cell]) -> list[Cell]:
    """The baselines of a cell: those without a model, and the probe of its own model."""
    return [
        other
        for other in cells
        if other is not cell
        and other.baseline
        and other.model in (NO_MODEL, cell.model)
        and not (cell.name in WITH_MODEL and other.name == cell.name)
    ]


def _family_of(a: Cell, b: Cell) -> tuple[str, str]:
    """The family over which a pair's p-value is corrected."""
    if not a.baseline and not b.baseline:
        return "methods", ""
    rows = [c.method for c in (a, b) if not c.baseline]
    rows += [c.method for c in (a, b) if c.baseline and c.model != NO_MODEL]
    # The method before the probe, so that the pair of both is in the method's family.
    return ("baselines of", rows[0]) if rows else ("baselines", "")
