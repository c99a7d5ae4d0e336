"""What would change a recommendation, in short sentences, most important first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.cells import cell_len

from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.learning_check import rate_edge_of
from paretune.analysis.pareto.costs import AXIS_TITLES
from paretune.analysis.pareto.recommend import Candidate, Recommendation
from paretune.analysis.statistics.sample_size import SampleSize
from paretune.methods.core.titles import title_of
from paretune.reporting.text.cost_amounts import LEAST_TITLES, format_amount, format_cost
from paretune.reporting.text.formatting import format_interval, format_point_difference, join_names
from paretune.reporting.text.sample_sizes import (
    POWER_NOTE,
    abbreviate_sample_size,
    describe_sample_size,
    has_number,
)
from paretune.reporting.text.unlearned import describe_edge_rates
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line


@dataclass(frozen=True)
class CandidateTitles:
    """Titles of the candidates of one recommendation."""

    recommendation: Recommendation

    def title(self, cell: Cell) -> str:
        """``LoRA on e5-small``; ``LoRA`` where the task has one model."""
        return self._name_model(title_of(cell.method), cell)

    def key(self, cell: Cell) -> str:
        """The same with the method as in the study: ``lora on e5-small``."""
        return self._name_model(cell.method, cell)

    def _name_model(self, method: str, cell: Cell) -> str:
        models = {c.cell.model for c in self.recommendation.candidates} - {NO_MODEL}
        with_model = cell.model != NO_MODEL and len(models) > 1
        return sanitise_line(f"{method} on {cell.model}" if with_model else method)


def write_changes(recommendation: Recommendation) -> Iterable[str]:
    """What would change a recommendation."""
    yield from _ChangeWriter(recommendation).write()


def write_main_change(recommendation: Recommendation, width: int) -> str:
    """The most important change, in at most ``width`` columns; empty where none fits."""
    changes = _ChangeWriter(recommendation).write_short()
    return next((text for text in changes if cell_len(text) <= width), "")


def find_best_cheaper(recommendation: Recommendation) -> Candidate | None:
    """The highest expected score among what costs less than the recommended configuration."""
    chosen, axis = recommendation.chosen, recommendation.budget.cost_axis
    if chosen is None or chosen.cell.model == NO_MODEL:
        return None
    cost = chosen.costs.get(axis)
    cheaper = [
        c
        for c in recommendation.candidates
        if (c.cell.model, c.cell.method) in recommendation.prospects
        if c.cell.model == NO_MODEL
        or (cost and axis in c.costs and c.costs[axis].value < cost.value)
    ]
    return max(cheaper, key=lambda c: c.expected.estimate, default=None)


def format_loss(points: float, form: str = ".1f") -> str:
    """``0.4 points``; ``1 point``."""
    text = f"{points:{form}}"
    return f"{text} {'point' if text == '1' else 'points'}"


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
        scored = [c.cell for c in self._methods]
        unscored = [
            cell for cell in recommendation.failed_cells if all(cell is not one for one in scored)
        ]
        cells = [*scored, *unscored]
        titles = CandidateTitles(recommendation)
        yield from describe_edge_rates((titles.title(cell), cell) for cell in cells)
        yield from self._other_budgets()
        sizes = list(self._open_pairs())
        for (a, b), size in sizes:
            yield describe_sample_size(size, a, b)
        within_budget = any(c.within_budget for c in self._methods)
        if recommendation.kind in ("baseline", "none") and within_budget:
            yield (
                f"More steps{self._steps_now()}, other learning rates, methods, models or data "
                "could change this."
            )
        yield from self._unmeasured()
        yield from self._failed_seeds()
        if any(has_number(size) for _, size in sizes):
            yield POWER_NOTE

    def write_short(self) -> Iterable[str]:
        """The same, most important first, each without its reasons."""
        recommendation, titles = self.recommendation, CandidateTitles(self.recommendation)
        edges: dict[str, list[str]] = {}
        for candidate in self._methods:
            if edge := rate_edge_of(candidate.cell):
                edges.setdefault(edge, []).append(titles.title(candidate.cell))
        for end, names in edges.items():
            rates = "higher" if end == "highest" else "lower"
            named = join_names(names)
            yield f"Try {rates} learning rates for {named}: the {end} tried was best"
        if (higher := recommendation.outside_budget) is not None:
            excess = self._format_excess(higher.candidate)
            title = self._title(higher.candidate)
            yield f"With a larger budget, {title} scored higher ({excess})"
        by_cost = list(self._change_by_cost())
        runner_up = recommendation.runner_up
        if runner_up is not None and runner_up.candidate is find_best_cheaper(recommendation):
            yield from by_cost  # nearer than more seeds
        for (a, b), size in self._open_pairs():
            if has_number(size):
                yield f"To decide between {a} and {b}: {abbreviate_sample_size(size)}"
        if recommendation.kind in ("baseline", "none"):
            yield f"More steps{self._steps_now()}, other rates, models or data could change this"
        yield from by_cost

    def _change_by_cost(self) -> Iterable[str]:
        """A limit under the cost of what is recommended, or a loss that is not accepted."""
        chosen, axis = self.recommendation.chosen, self.recommendation.budget.cost_axis
        alternative = self.recommendation.best_alternative
        if chosen is None:
            return
        if alternative is not None:
            candidate = alternative.candidate
            more = format_loss(self._points(candidate, chosen))
            yield f"If {more} matter, take {self._title(candidate)} (--within 0)"
        cheaper = find_best_cheaper(self.recommendation)
        if cheaper is not None and cheaper.cell.model != NO_MODEL and axis in chosen.costs:
            limit = format_amount(axis, chosen.costs[axis].value)
            lower = format_loss(self._points(chosen, cheaper))
            yield f"With less than {limit}, take {self._title(cheaper)}: {lower} less"

    @staticmethod
    def _points(higher: Candidate, lower: Candidate) -> float:
        difference = higher.expected.estimate - lower.expected.estimate
        return 100 * difference / higher.expected.score.highest

    def _other_budgets(self) -> Iterable[str]:
        higher = self.recommendation.outside_budget
        if higher is not None:
            title = f"{self._title(higher.candidate)} ({self._format_excess(higher.candidate)})"
            by = f": {format_point_difference(higher.pair.difference)}" if higher.pair else ""
            yield f"With a larger budget, {title} scored higher{by}."
        elif self.recommendation.chosen is None:
            yield from self._cheapest_outside()

    def _cheapest_outside(self) -> Iterable[str]:
        axis = self.recommendation.budget.cost_axis
        outside = [c for c in self.recommendation.candidates if c.proven and c.exceeded]
        outside = [c for c in outside if axis in c.costs]
        if outside:
            cheapest = min(outside, key=lambda c: c.costs[axis].value)
            yield (
                f"Proven better than every baseline, with {LEAST_TITLES[axis]}: "
                f"{self._title(cheapest)}, {format_interval(cheapest.interval)} "
                f"({self._format_excess(cheapest)})."
            )

    def _open_pairs(self) -> Iterable[tuple[tuple[str, str], SampleSize]]:
        """The titles of each undecided pair, and what would decide it."""
        chosen = self.recommendation.chosen
        for other in (
            self.recommendation.best_alternative,
            self.recommendation.runner_up,
            self.recommendation.hardest_comparison,
        ):
            if other is None or chosen is None or other.pair is None or other.sample_size is None:
                continue
            if other.pair.standing == "unclear":
                titles = self._title(other.candidate), self._title(chosen)
                yield titles, other.sample_size

    def _unmeasured(self) -> Iterable[str]:
        names = [
            f"{self._title(c)} ({join_names([AXIS_TITLES[axis] for axis in c.unmeasured])})"
            for c in self.recommendation.unmeasured_candidates
        ]
        if names:
            yield f"Not considered, since a limited cost was not measured: {'; '.join(names)}."

    def _failed_seeds(self) -> Iterable[str]:
        """Failures of the recommended configuration."""
        chosen = self.recommendation.chosen
        if chosen is not None and chosen.failed_seeds:
            runs = pluralise(len(chosen.cell.final), "run")
            yield (
                f"{chosen.failed_seeds} of {runs} of {self._title(chosen)} failed; the expected "
                "score counts that."
            )

    def _steps_now(self) -> str:
        steps = [
            int(record.result["steps"])
            for candidate in self._methods
            for record in candidate.cell.final
            if record.result.get("steps")
        ]
        return f" (now {max(steps):,})" if steps else ""

    def _format_excess(self, candidate: Candidate) -> str:
        """The costs that exceed the budget, or those that were not measured."""
        if not candidate.exceeded:
            titles = [AXIS_TITLES[axis] for axis in candidate.unmeasured]
            return f"{join_names(titles)} not measured"
        return join_names([format_cost(axis, candidate.costs[axis]) for axis in candidate.exceeded])
