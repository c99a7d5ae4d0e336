"""What would change a recommendation, in short sentences, the most telling first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from paretune.analysis.cells import NO_MODEL, Cell
from paretune.analysis.pareto.costs import AXIS_TITLES
from paretune.analysis.pareto.recommend import Candidate, Recommendation
from paretune.analysis.statistics.sample_size import SampleSize
from paretune.reporting.text import unlearned
from paretune.reporting.text.cost_amounts import LEAST_TITLES, format_cost
from paretune.reporting.text.formatting import format_interval, join_names, pluralise
from paretune.reporting.text.sample_sizes import POWER_NOTE, describe_needed, names_number
from paretune.terminal.sanitise import sanitise_line


@dataclass(frozen=True)
class ChangeWriter:
    """The sentences on one recommendation that say what would change it."""

    found: Recommendation

    def title(self, candidate: Candidate) -> str:
        """``lora on e5-small``; ``lora`` where the task has one model."""
        return self.title_of(candidate.cell)

    def title_of(self, cell: Cell) -> str:
        """The same of a cell."""
        models = {c.cell.model for c in self.found.candidates} - {NO_MODEL}
        alone = cell.model == NO_MODEL or len(models) < 2
        return sanitise_line(cell.method if alone else f"{cell.method} on {cell.model}")

    @property
    def least(self) -> str:
        """``the least peak memory``: what is cheap by the chosen cost."""
        return LEAST_TITLES[self.found.budget.cost_axis]

    def changes(self) -> Iterable[str]:
        """What would change the recommendation."""
        counted: list[SampleSize] = []
        yield from self._unfinished()
        yield from unlearned.describe_edge_rates(
            (self.title(c), c.cell) for c in self.found.candidates if not c.cell.baseline
        )
        yield from self._other_budgets()
        for text, needed in self._undecided():
            counted.append(needed)
            yield f"{text}: {describe_needed(needed)}."
        if self.found.kind in ("baseline", "none") and any(
            not c.cell.baseline and c.within_budget for c in self.found.candidates
        ):
            yield f"More steps{self._steps_now()}, other rates, methods, models or data may help."
        yield from self._left_aside()
        yield from self._mishaps()
        chosen = self.found.chosen
        if self.found.kind == "method" and chosen and chosen.interval.n_seeds < 3:
            seeds = pluralise(chosen.interval.n_seeds, "seed")
            yield f"With {seeds} few differences are clear, so cheap ones stay; a claim needs 5."
        if any(names_number(needed) for needed in counted):
            yield POWER_NOTE

    def _unfinished(self) -> Iterable[str]:
        if self.found.unfinished:
            count = pluralise(len(self.found.unfinished), "cell")
            yield f"{count} of this task not finished yet."

    def _other_budgets(self) -> Iterable[str]:
        found, by = self.found, self.found.budget.cost_axis
        if (rival := found.outside_budget) is not None:
            chance = "clearly" if rival.clear else "not clearly"
            yield (
                f"A larger budget: {self.title(rival.candidate)} ({self._over(rival.candidate)}) "
                f"scores {chance} higher, by {format_interval(rival.difference)}."
            )
        outside = [c for c in found.candidates if c.clear and c.exceeded and by in c.costs]
        if found.kind != "method" and outside:
            least = min(outside, key=lambda c: c.costs[by].value)
            yield (
                f"Clearly above every baseline, with {self.least}: {self.title(least)}, "
                f"{format_interval(least.interval)} ({self._over(least)})."
            )

    def _undecided(self) -> Iterable[tuple[str, SampleSize]]:
        """Pairs that are not decided, as sentences without their ends, and what would decide."""
        found = self.found
        if (rival := found.best_alternative) is not None and not rival.clear and found.chosen:
            best, chosen = self.title(rival.candidate), self.title(found.chosen)
            yield f"Would decide between {best} and {chosen}", rival.sample_size
        if (rival := found.hardest_comparison) is not None:
            name = sanitise_line(found.hardest_baseline)
            yield (
                f"Would decide between {self.title(rival.candidate)} and {name}",
                rival.sample_size,
            )

    def _left_aside(self) -> Iterable[str]:
        """Methods that are cheaper and not below, and those whose limited cost is not known."""
        found, by = self.found, self.found.budget.cost_axis
        if found.kind == "method" and found.chosen and by in found.chosen.costs:
            most = found.chosen.costs[by].value
            unclear = [
                self.title(c)
                for c in found.candidates
                if not c.cell.baseline
                and not c.clear
                and c.verdict is not None
                and c.verdict.standing != "below"
                and by in c.costs
                and c.costs[by].value < most
            ]
            if unclear:
                yield f"Cheaper, but not clearly above every baseline: {join_names(unclear)}."
        if found.unmeasured_candidates:
            said = [
                f"{self.title(c)} ({join_names([AXIS_TITLES[a] for a in c.unmeasured])})"
                for c in found.unmeasured_candidates
            ]
            yield f"Not considered, since a limited cost was not measured: {'; '.join(said)}."

    def _mishaps(self) -> Iterable[str]:
        for candidate in self.found.candidates:
            cell, total = candidate.cell, pluralise(len(candidate.cell.final), "seed")
            collapsed = cell.outcomes.get("collapsed", 0)
            if candidate.failed_seeds:
                yield (
                    f"{candidate.failed_seeds} of {total} of {self.title(candidate)} diverged or did not "
                    "fit, and counts as the lowest score there is."
                )
            if collapsed and candidate is self.found.chosen and not cell.baseline:
                yield f"{collapsed} of {total} of {self.title(candidate)} answered a constant."

    def _steps_now(self) -> str:
        steps = [
            int(r.result["steps"])
            for c in self.found.candidates
            if not c.cell.baseline
            for r in c.cell.final
            if r.result.get("steps")
        ]
        return f" ({max(steps):,} now)" if steps else ""

    def _over(self, candidate: Candidate) -> str:
        if not candidate.exceeded:
            return (
                f"{join_names([AXIS_TITLES[axis] for axis in candidate.unmeasured])} not measured"
            )
        return join_names([format_cost(axis, candidate.costs[axis]) for axis in candidate.exceeded])
