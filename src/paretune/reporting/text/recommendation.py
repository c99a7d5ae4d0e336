"""A recommendation in short sentences: what to take, why, and what would change it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from paretune.analysis.cells import NO_MODEL, Cell
from paretune.analysis.pareto.recommendation import Candidate, Recommendation
from paretune.methods.baselines import TRIVIAL
from paretune.reporting.text.conclusions import SELECTED_ON_TEST
from paretune.reporting.text.cost_amounts import LEAST_TITLES, format_cost
from paretune.reporting.text.formatting import (
    format_basis,
    format_interval,
    format_p_value,
    join_names,
    pluralise,
)
from paretune.reporting.text.recommendation_changes import CandidateTitles, write_changes
from paretune.reporting.text.unlearned import describe_trivial_score, warn_unlearned
from paretune.terminal.sanitise import sanitise_line


@dataclass(frozen=True)
class Advice:
    """A recommendation on one task, as texts.

    Attributes:
        take: title of the recommended configuration; empty where there is none.
        reasons: what to take and why.
        changes: what would change it, most important first.
        command: exports the configuration; empty where it has no weights.
        warnings: come first: what was not learned.
        kind: as in :class:`~paretune.analysis.pareto.recommend.Recommendation`.
        headline: what to take, in one line.
    """

    task: str
    take: str
    reasons: tuple[str, ...]
    changes: tuple[str, ...]
    command: str
    warnings: tuple[str, ...] = ()
    kind: str = "none"
    headline: str = ""


def write_advice(
    recommendation: Recommendation, study: str = "STUDY", store: str | None = None
) -> Advice:
    """Put a recommendation into words.

    Args:
        recommendation: on one task.
        study: the study as the user typed it, for the command.
        store: the folder of its results, where it is not the default.
    """
    writer = _AdviceWriter(recommendation)
    write_reasons = {
        "method": writer.reasons_for_method,
        "guess": writer.reasons_for_guess,
        "baseline": writer.reasons_for_baseline,
        "none": writer.reasons_for_none,
    }[recommendation.kind]
    chosen = recommendation.chosen
    return Advice(
        task=writer.task,
        take=writer.titles.title(chosen.cell) if chosen else "",
        reasons=tuple(write_reasons()),
        changes=tuple(write_changes(recommendation)),
        command=_write_command(chosen.cell, study, store) if chosen else "",
        warnings=tuple(writer.warnings()),
        kind=recommendation.kind,
        headline=writer.headline(),
    )


@dataclass(frozen=True)
class _AdviceWriter:
    """The sentences on one recommendation."""

    recommendation: Recommendation

    @property
    def task(self) -> str:
        return sanitise_line(self.recommendation.task)

    @property
    def titles(self) -> CandidateTitles:
        return CandidateTitles(self.recommendation)

    @property
    def _chosen(self) -> Candidate:
        chosen = self.recommendation.chosen
        assert chosen is not None  # noqa: S101 - every kind but "none" has one
        return chosen

    @property
    def _methods(self) -> list[Candidate]:
        return [c for c in self.recommendation.candidates if not c.cell.baseline]

    @property
    def _inside(self) -> str:
        return " inside the budget" if self.recommendation.budget.limits else ""

    @property
    def _least(self) -> str:
        return LEAST_TITLES[self.recommendation.budget.cost_axis]

    def headline(self) -> str:
        """``topics: take lora, 0.77 [0.67, 0.86], 870 MiB peak memory``; empty for nothing."""
        chosen, kind = self.recommendation.chosen, self.recommendation.kind
        if chosen is None:
            return ""
        verb = {"guess": "best guess", "baseline": "take the baseline"}.get(kind, "take")
        parts = [
            f"{verb} {self.titles.title(chosen.cell)}",
            format_interval(chosen.interval),
            *self._format_costs(chosen),
        ]
        return f"{self.task}: {', '.join(parts)}"

    def warnings(self) -> Iterable[str]:
        """What must be known before any recommendation."""
        collapsed = self.recommendation.collapsed_cells
        if collapsed is not None:
            titles = [self.titles.title(cell) for cell in collapsed.cells]
            yield warn_unlearned(collapsed, titles, len(collapsed.cells) >= len(self._methods))

    def reasons_for_method(self) -> Iterable[str]:
        """A method that is clearly above every baseline."""
        recommendation, title = self.recommendation, self.titles.title(self._chosen.cell)
        yield f"On {self.task}, take {self._describe(self._chosen)}."
        if recommendation.best_alternative is None:
            if recommendation.considered == 1:
                yield f"It is the only one{self._inside} that is clearly above every baseline."
            else:
                yield (
                    f"It scores highest of the {recommendation.considered}{self._inside} clearly "
                    f"above every baseline; {self._explain_none_cheaper()}."
                )
            return
        best = self.titles.title(recommendation.best_alternative.candidate.cell)
        difference = recommendation.best_alternative.difference
        minus = f"{best} minus {title}: {format_interval(difference)}"
        max_loss = recommendation.budget.max_loss_points
        if max_loss is None:
            yield (
                f"Of those clearly above every baseline{self._inside} it has {self._least}; "
                f"no clear difference from the highest, {best} ({minus})."
            )
            return
        shows = (
            "shows" if difference.high <= max_loss * difference.highest / 100 else ("does not show")
        )
        yield (
            f"It has {self._least}{self._inside} within {_format_points(max_loss)} of the highest, "
            f"{best}. The interval {shows} that the loss is so small ({minus})."
        )

    def reasons_for_guess(self) -> Iterable[str]:
        """A method that scores higher than its baselines, but not clearly so."""
        yield f"On {self.task}, the best guess is {self._describe(self._chosen)}."
        hardest = self.recommendation.hardest_comparison
        if hardest is None:
            return
        title = self.titles.title(self._chosen.cell)
        baseline = sanitise_line(self.recommendation.hardest_baseline)
        yield (
            f"It is not proven: {title} minus {baseline} is {format_interval(hardest.difference)}, "
            f"no clear difference (p {format_p_value(hardest.p)}, corrected)."
        )
        if safe := self._find_safe_baseline():
            yield f"If a wrong choice is costly, stay with {safe}."

    def _find_safe_baseline(self) -> str:
        """The highest baseline above the trivial score; empty where there is none."""
        trivial = self.recommendation.trivial_score
        baselines = [
            c
            for c in self.recommendation.candidates
            if c.cell.baseline
            and c.cell.name not in TRIVIAL
            and c.within_budget
            and (trivial is None or c.interval.estimate > trivial.value)
        ]
        best = max(baselines, key=lambda c: c.interval.estimate, default=None)
        return "" if best is None else self.titles.title(best.cell)

    def reasons_for_baseline(self) -> Iterable[str]:
        """A baseline, where no method within the budget scores higher."""
        yield f"On {self.task}, take the baseline {self._describe(self._chosen)}."
        within = [c for c in self._methods if c.within_budget]
        highest = max(within, key=lambda c: c.interval.estimate, default=None)
        if highest is not None and highest.verdict is not None:
            yield (
                f"No method{self._inside} scores above all baselines; the highest is "
                f"{self.titles.title(highest.cell)}, {format_interval(highest.interval)}: "
                f"{sanitise_line(highest.verdict.summary)}."
            )
        elif not self._methods:
            yield "No method was trained beside the baselines."
        else:
            yield self._explain_none_fits()

    def _explain_none_fits(self) -> str:
        if all(c.exceeded for c in self._methods):
            return "No method fits the budget."
        return "No method is known to fit the budget: a limited cost was not measured."

    def reasons_for_none(self) -> Iterable[str]:
        """Why nothing can be recommended."""
        recommendation = self.recommendation
        with_model = any(c.cell.model != NO_MODEL for c in recommendation.candidates)
        if any(c.cell.selected_on_test for c in recommendation.candidates):
            yield (
                f"On {self.task}, nothing is recommended: scores were {SELECTED_ON_TEST}. "
                "protocol: fair avoids that."
            )
        elif recommendation.missing and self._methods:
            names = join_names([sanitise_line(name) for name in recommendation.missing])
            yield f"On {self.task}, nothing is recommended before these baselines: {names}."
        elif recommendation.trivial_score is not None and with_model:
            trivial = describe_trivial_score(recommendation.trivial_score)
            yield f"On {self.task}, there is nothing to take."
            if self._methods and not any(c.within_budget for c in self._methods):
                yield f"{self._explain_none_fits()} No baseline scores above {trivial}."
            else:
                yield f"Nothing scores above {trivial}."
        else:
            yield f"On {self.task}, no method has a score yet."

    def _explain_none_cheaper(self) -> str:
        """Why the highest score is also the recommended configuration."""
        axis, chosen = self.recommendation.budget.cost_axis, self._chosen
        cost = chosen.costs.get(axis)
        cheaper = [
            self.titles.title(c.cell)
            for c in self.recommendation.candidates
            if c.clear and c.within_budget and c is not chosen
            if cost and axis in c.costs and c.costs[axis].value < cost.value
        ]
        if not cheaper:
            return "none is known to be cheaper"
        if self.recommendation.budget.max_loss_points is not None:
            return f"what is cheaper loses more than is allowed: {join_names(cheaper)}"
        return f"what is cheaper is clearly below it: {join_names(cheaper)}"

    def _describe(self, candidate: Candidate) -> str:
        """``lora: 0.77 [0.67, 0.86] (60 examples, 3 seeds), 870 MiB peak memory``."""
        selected = f"; {SELECTED_ON_TEST}" if candidate.cell.selected_on_test else ""
        basis = f"{format_basis(candidate.interval)}{selected}"
        score = f"{format_interval(candidate.interval)} ({basis})"
        text = f"{self.titles.title(candidate.cell)}: {score}"
        costs = self._format_costs(candidate)
        return f"{text}, {join_names(costs)}" if costs else text

    def _format_costs(self, candidate: Candidate) -> list[str]:
        budget = self.recommendation.budget
        return [
            format_cost(axis, candidate.costs[axis])
            for axis in dict.fromkeys((budget.cost_axis, *budget.limits))
            if axis in candidate.costs
        ]


def _format_points(value: float) -> str:
    return pluralise(1, "point") if value == 1 else f"{value:g} points"


def _write_command(cell: Cell, study: str, store: str | None) -> str:
    """Exports the configuration; empty for a baseline that has no weights."""
    if cell.model == NO_MODEL:
        return ""
    options = {"task": cell.task, "model": cell.model, "method": cell.method, "store": store}
    parts = ["paretune", "export", study]
    for option, value in options.items():
        parts += [f"--{option}", value] if value is not None else []
    return sanitise_line(shlex.join(parts))
