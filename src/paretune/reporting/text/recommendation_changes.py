"""What would change a recommendation, in short sentences, most important first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from paretune.analysis.cells import NO_MODEL, Cell
from paretune.analysis.pareto.costs import AXIS_TITLES
from paretune.analysis.pareto.recommendation import Candidate, Recommendation
from paretune.analysis.statistics.sample_size import SampleSize
from paretune.reporting.text.cost_amounts import LEAST_TITLES, format_cost
from paretune.reporting.text.formatting import format_interval, join_names, pluralise
from paretune.reporting.text.sample_sizes import POWER_NOTE, describe_sample_size, has_number
from paretune.reporting.text.unlearned import describe_edge_rates
from paretune.terminal.sanitise import sanitise_line


@dataclass(frozen=True)
class CandidateTitles:
    """Titles of the candidates of one recommendation."""

    recommendation: Recommendation

    def title(self, cell: Cell) -> str:
        """``lora on e5-small``; ``lora`` where the task has one model."""
        models = {c.cell.model for c in self.recommendation.candidates} - {NO_MODEL}
        with_model = cell.model != NO_MODEL and len(models) > 1
        return sanitise_line(f"{cell.method} on {cell.model}" if with_model else cell.method)


def write_changes(recommendation: Recommendation) -> Iterable[str]:
    """What would change a recommendation."""
    yield from _ChangeWriter(recommendation).write()


@dataclass(frozen=True)
class _ChangeWriter:
    recommendation: Recommendation

    def _title(self, candidate: Candidate) -> str:
        return CandidateTitles(self.recommendation).title(candidate.cell)

    @property
    def _methods(self) -> list[Candidate]:
        return [c for c in self.recommendation.candidates if not c.cell.baseline]

    def write(self) -> Iterable[str]:
        recommendation = self.recommendation
        if recommendation.unfinished:
            count = pluralise(len(recommendation.unfinished), "cell")
            yield f"{count} of this task not finished yet."
        yield from describe_edge_rates((self._title(c), c.cell) for c in self._methods)
        yield from self._other_budgets()
        sizes = list(self._undecided_pairs())
        for text, size in sizes:
            yield f"{text}: {describe_sample_size(size)}."
        within_budget = any(c.within_budget for c in self._methods)
        if recommendation.kind in ("baseline", "none") and within_budget:
            yield f"More steps{self._steps_now()}, other rates, methods, models or data may help."
        yield from self._unclear_and_cheaper()
        yield from self._unmeasured()
        yield from self._failed_seeds()
        chosen = recommendation.chosen
        if recommendation.kind == "method" and chosen and chosen.interval.n_seeds < 3:
            seeds = pluralise(chosen.interval.n_seeds, "seed")
            yield f"With {seeds} few differences are clear, so cheap ones stay; a claim needs 5."
        if any(has_number(size) for _, size in sizes):
            yield POWER_NOTE

    def _other_budgets(self) -> Iterable[str]:
        recommendation, axis = self.recommendation, self.recommendation.budget.cost_axis
        if (higher := recommendation.outside_budget) is not None:
            clearly = "clearly" if higher.clear else "not clearly"
            costs = self._format_excess(higher.candidate)
            yield (
                f"A larger budget: {self._title(higher.candidate)} ({costs}) "
                f"scores {clearly} higher, by {format_interval(higher.difference)}."
            )
        outside = [
            c for c in recommendation.candidates if c.clear and c.exceeded and axis in c.costs
        ]
        if recommendation.kind != "method" and outside:
            cheapest = min(outside, key=lambda c: c.costs[axis].value)
            yield (
                f"Clearly above every baseline, with {LEAST_TITLES[axis]}: "
                f"{self._title(cheapest)}, {format_interval(cheapest.interval)} "
                f"({self._format_excess(cheapest)})."
            )

    def _undecided_pairs(self) -> Iterable[tuple[str, SampleSize]]:
        """The beginning of a sentence on each undecided pair, and what would decide it."""
        best, hardest = (
            self.recommendation.best_alternative,
            self.recommendation.hardest_comparison,
        )
        if best is not None and not best.clear and self.recommendation.chosen:
            titles = self._title(best.candidate), self._title(self.recommendation.chosen)
            yield f"Would decide between {titles[0]} and {titles[1]}", best.sample_size
        if hardest is not None:
            baseline = sanitise_line(self.recommendation.hardest_baseline)
            title = self._title(hardest.candidate)
            yield f"Would decide between {title} and {baseline}", hardest.sample_size

    def _unclear_and_cheaper(self) -> Iterable[str]:
        """Methods that are cheaper than the chosen one and not clearly below a baseline."""
        chosen, axis = self.recommendation.chosen, self.recommendation.budget.cost_axis
        if self.recommendation.kind != "method" or chosen is None or axis not in chosen.costs:
            return
        unclear = [
            self._title(c)
            for c in self._methods
            if not c.clear and c.verdict is not None and c.verdict.standing != "below"
            if axis in c.costs and c.costs[axis].value < chosen.costs[axis].value
        ]
        if unclear:
            yield f"Cheaper, but not clearly above every baseline: {join_names(unclear)}."

    def _unmeasured(self) -> Iterable[str]:
        names = [
            f"{self._title(c)} ({join_names([AXIS_TITLES[axis] for axis in c.unmeasured])})"
            for c in self.recommendation.unmeasured_candidates
        ]
        if names:
            yield f"Not considered, since a limited cost was not measured: {'; '.join(names)}."

    def _failed_seeds(self) -> Iterable[str]:
        for candidate in self.recommendation.candidates:
            cell, title = candidate.cell, self._title(candidate)
            total = pluralise(len(cell.final), "seed")
            if candidate.failed_seeds:
                yield (
                    f"{candidate.failed_seeds} of {total} of {title} diverged or ran out of "
                    f"memory, "
                    "and count as the lowest possible score."
                )
            collapsed = cell.outcomes.get("collapsed", 0)
            if collapsed and candidate is self.recommendation.chosen and not cell.baseline:
                yield f"{collapsed} of {total} of {title} predicted a constant."

    def _steps_now(self) -> str:
        steps = [
            int(record.result["steps"])
            for candidate in self._methods
            for record in candidate.cell.final
            if record.result.get("steps")
        ]
        return f" ({max(steps):,} now)" if steps else ""

    def _format_excess(self, candidate: Candidate) -> str:
        """The costs that exceed the budget, or those that were not measured."""
        if not candidate.exceeded:
            titles = [AXIS_TITLES[axis] for axis in candidate.unmeasured]
            return f"{join_names(titles)} not measured"
        return join_names([format_cost(axis, candidate.costs[axis]) for axis in candidate.exceeded])
