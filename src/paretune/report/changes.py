"""What would change a recommendation, in short sentences, the most telling first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from paretune.analysis.cells import NO_MODEL, Cell
from paretune.analysis.costs import TITLES
from paretune.analysis.needed import Needed
from paretune.analysis.recommend import Candidate, Recommendation
from paretune.report import sense, words
from paretune.report.cost_words import LEAST, cost
from paretune.report.deciding import POWER_NOTE, decides, has_number


@dataclass(frozen=True)
class Changes:
    """The sentences on one recommendation that say what would change it."""

    found: Recommendation

    def title(self, candidate: Candidate) -> str:
        """``lora on e5-small``; ``lora`` where the task has one model."""
        return self.title_of(candidate.cell)

    def title_of(self, cell: Cell) -> str:
        """The same of a cell."""
        models = {c.cell.model for c in self.found.candidates} - {NO_MODEL}
        alone = cell.model == NO_MODEL or len(models) < 2
        return words.plain(cell.method if alone else f"{cell.method} on {cell.model}")

    @property
    def least(self) -> str:
        """``the least peak memory``: what is cheap by the chosen cost."""
        return LEAST[self.found.budget.by]

    def changes(self) -> Iterable[str]:
        """What would change the recommendation."""
        counted: list[Needed] = []
        yield from self._unfinished()
        yield from sense.at_the_edge(
            (self.title(c), c.cell) for c in self.found.candidates if not c.cell.baseline
        )
        yield from self._other_budgets()
        for text, needed in self._undecided():
            counted.append(needed)
            yield f"{text}: {decides(needed)}."
        if self.found.kind in ("baseline", "none") and any(
            not c.cell.baseline and c.inside for c in self.found.candidates
        ):
            yield f"More steps{self._steps_now()}, other rates, methods, models or data may help."
        yield from self._left_aside()
        yield from self._mishaps()
        chosen = self.found.chosen
        if self.found.kind == "method" and chosen and chosen.interval.n_seeds < 3:
            seeds = words.counted(chosen.interval.n_seeds, "seed")
            yield f"With {seeds} few differences are clear, so cheap ones stay; a claim needs 5."
        if any(has_number(needed) for needed in counted):
            yield POWER_NOTE

    def _unfinished(self) -> Iterable[str]:
        if self.found.unfinished:
            count = words.counted(len(self.found.unfinished), "cell")
            yield f"{count} of this task not finished yet."

    def _other_budgets(self) -> Iterable[str]:
        found, by = self.found, self.found.budget.by
        if (rival := found.outside) is not None:
            chance = "clearly" if rival.clear else "not clearly"
            yield (
                f"A larger budget: {self.title(rival.candidate)} ({self._over(rival.candidate)}) "
                f"scores {chance} higher, by {words.interval(rival.difference)}."
            )
        outside = [c for c in found.candidates if c.clear and c.over and by in c.costs]
        if found.kind != "method" and outside:
            least = min(outside, key=lambda c: c.costs[by].value)
            yield (
                f"Clearly above every baseline, with {self.least}: {self.title(least)}, "
                f"{words.interval(least.interval)} ({self._over(least)})."
            )

    def _undecided(self) -> Iterable[tuple[str, Needed]]:
        """Pairs that are not decided, as sentences without their ends, and what would decide."""
        found = self.found
        if (rival := found.to_best) is not None and not rival.clear and found.chosen:
            best, chosen = self.title(rival.candidate), self.title(found.chosen)
            yield f"Would decide between {best} and {chosen}", rival.needed
        if (rival := found.hardest) is not None:
            name = words.plain(found.hardest_baseline)
            yield f"Would decide between {self.title(rival.candidate)} and {name}", rival.needed

    def _left_aside(self) -> Iterable[str]:
        """Methods that are cheaper and not below, and those whose limited cost is not known."""
        found, by = self.found, self.found.budget.by
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
                yield f"Cheaper, but not clearly above every baseline: {words.listed(unclear)}."
        if found.unmeasured:
            said = [
                f"{self.title(c)} ({words.listed([TITLES[a] for a in c.unknown])})"
                for c in found.unmeasured
            ]
            yield f"Not considered, since a limited cost was not measured: {'; '.join(said)}."

    def _mishaps(self) -> Iterable[str]:
        for candidate in self.found.candidates:
            cell, total = candidate.cell, words.counted(len(candidate.cell.final), "seed")
            collapsed = cell.outcomes.get("collapsed", 0)
            if candidate.lost:
                yield (
                    f"{candidate.lost} of {total} of {self.title(candidate)} diverged or did not "
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
        if not candidate.over:
            return f"{words.listed([TITLES[axis] for axis in candidate.unknown])} not measured"
        return words.listed([cost(axis, candidate.costs[axis]) for axis in candidate.over])
