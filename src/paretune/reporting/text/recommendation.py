"""A recommendation in short sentences: what to take, why, and what would change it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from paretune.analysis.cells import NO_MODEL, Cell
from paretune.analysis.learning_check import TRIVIAL_BASELINES
from paretune.analysis.pareto.recommend import Candidate, Recommendation
from paretune.reporting.text import unlearned
from paretune.reporting.text.conclusions import SELECTED_ON_TEST
from paretune.reporting.text.cost_amounts import format_cost
from paretune.reporting.text.formatting import (
    format_basis,
    format_interval,
    format_p_value,
    join_names,
    pluralise,
)
from paretune.reporting.text.recommendation_changes import ChangeWriter
from paretune.terminal.sanitise import sanitise_line


@dataclass(frozen=True)
class Advice:
    """``take`` names the configuration, empty where there is none; ``command`` exports it.

    ``warnings`` come before everything else: what was not learned. ``reasons`` are what to take
    and why, ``changes`` what would change it, the most telling first; ``headline`` says in one line
    what to take. ``kind`` as in :class:`~paretune.analysis.pareto.recommend.Recommendation`.
    """

    task: str
    take: str
    reasons: tuple[str, ...]
    changes: tuple[str, ...]
    command: str
    warnings: tuple[str, ...] = ()
    kind: str = "none"
    headline: str = ""


def write_advice(found: Recommendation, study: str = "STUDY", store: str | None = None) -> Advice:
    """A recommendation as it is shown.

    Args:
        found: on one task.
        study: how the user calls the study, for the command.
        store: the folder of its results, where it is not the usual one.
    """
    said = _AdviceWriter(found)
    reasons = {
        "method": said.method,
        "guess": said.guess,
        "baseline": said.baseline,
        "none": said.nothing,
    }[found.kind]
    return Advice(
        task=sanitise_line(found.task),
        take=said.title(found.chosen) if found.chosen else "",
        reasons=tuple(reasons()),
        changes=tuple(said.changes()),
        command=_command(found.chosen.cell, study, store) if found.chosen else "",
        warnings=tuple(said.warnings()),
        kind=found.kind,
        headline=said.headline(),
    )


class _AdviceWriter(ChangeWriter):
    """The sentences on one recommendation."""

    @property
    def _task(self) -> str:
        return sanitise_line(self.found.task)

    @property
    def _inside(self) -> str:
        return " inside the budget" if self.found.budget.limits else ""

    def headline(self) -> str:
        """``topics: take lora, 0.77 [0.67, 0.86], 870 MiB peak memory``; empty for nothing."""
        chosen = self.found.chosen
        if chosen is None:
            return ""
        how = {"guess": "best guess", "baseline": "take the baseline"}.get(self.found.kind, "take")
        said = [
            f"{how} {self.title(chosen)}",
            format_interval(chosen.interval),
            *self._costs(chosen),
        ]
        return f"{self._task}: {', '.join(said)}"

    def warnings(self) -> Iterable[str]:
        """What is to be known before any recommendation."""
        missed = self.found.collapsed_cells
        if missed is not None:
            methods = [c for c in self.found.candidates if not c.cell.baseline]
            of_all = len(missed.cells) >= len(methods)
            yield unlearned.warn_unlearned(missed, [self.title_of(c) for c in missed.cells], of_all)

    def method(self) -> Iterable[str]:
        """A method that is clearly above every baseline."""
        found, chosen = self.found, _there(self.found.chosen)
        yield f"On {self._task}, take {self._scored(chosen)}."
        if found.best_alternative is None:
            if found.considered == 1:
                yield f"It is the only one{self._inside} that is clearly above every baseline."
            else:
                yield (
                    f"It scores highest of the {found.considered}{self._inside} clearly above "
                    f"every baseline; {self._none_cheaper()}."
                )
            return
        best, gap = found.best_alternative.candidate, found.best_alternative.difference
        named = f"the highest, {self.title(best)}"
        minus = f"{self.title(best)} minus {self.title(chosen)}: {format_interval(gap)}"
        if found.budget.max_loss_points is None:
            yield (
                f"Of those clearly above every baseline{self._inside} it has {self.least}; "
                f"no clear difference from {named} ({minus})."
            )
            return
        most = found.budget.max_loss_points * gap.highest / 100
        shown = "shows" if gap.high <= most else "does not show"
        yield (
            f"It has {self.least}{self._inside} within {_points(found.budget.max_loss_points)} of {named}. "
            f"The interval {shown} that the loss is so small ({minus})."
        )

    def guess(self) -> Iterable[str]:
        """A method that scores higher than its baselines, but not clearly so."""
        found, chosen = self.found, _there(self.found.chosen)
        yield f"On {self._task}, the best guess is {self._scored(chosen)}."
        rival = found.hardest_comparison
        if rival is None:
            return
        name, gap = (
            sanitise_line(found.hardest_baseline),
            format_interval(rival.difference),
        )
        yield (
            f"It is not proven: {self.title(chosen)} minus {name} is {gap}, no clear difference "
            f"(p {format_p_value(rival.p)}, corrected)."
        )
        if safe := self._safe():
            yield f"If a wrong choice is costly, stay with {safe}."

    def _safe(self) -> str:
        """The highest baseline that answers by more than one label; empty where there is none."""
        baselines = [
            c
            for c in self.found.candidates
            if c.cell.baseline and c.cell.name not in TRIVIAL_BASELINES and c.within_budget
        ]
        floor = self.found.trivial_score
        worth = [c for c in baselines if floor is None or c.interval.estimate > floor.value]
        best = max(worth, key=lambda c: c.interval.estimate, default=None)
        return "" if best is None else self.title(best)

    def baseline(self) -> Iterable[str]:
        """A baseline, where no method inside scores higher."""
        found, chosen = self.found, _there(self.found.chosen)
        yield f"On {self._task}, take the baseline {self._scored(chosen)}."
        methods = [c for c in found.candidates if not c.cell.baseline]
        top = max(
            (c for c in methods if c.within_budget), key=lambda c: c.interval.estimate, default=None
        )
        if top is not None and top.verdict is not None:
            yield (
                f"No method{self._inside} scores above all baselines; the highest is "
                f"{self.title(top)}, {format_interval(top.interval)}: "
                f"{sanitise_line(top.verdict.summary)}."
            )
        elif not methods:
            yield "No method was trained beside the baselines."
        else:
            yield self._no_fit()

    def _no_fit(self) -> str:
        """Why no method is inside the budget."""
        if all(c.exceeded for c in self.found.candidates if not c.cell.baseline):
            return "No method fits the budget."
        return "No method is known to fit the budget: a limited cost was not measured."

    def nothing(self) -> Iterable[str]:
        """Why nothing can be recommended."""
        found = self.found
        if any(c.cell.selected_on_test for c in found.candidates):
            yield (
                f"On {self._task}, nothing is recommended: scores were {SELECTED_ON_TEST}. "
                "protocol: fair avoids that."
            )
        elif found.missing and any(not c.cell.baseline for c in found.candidates):
            names = join_names([sanitise_line(name) for name in found.missing])
            yield f"On {self._task}, nothing is recommended before these baselines: {names}."
        elif found.trivial_score is not None and any(
            c.cell.model != NO_MODEL for c in found.candidates
        ):
            floor = unlearned.describe_floor(found.trivial_score)
            yield f"On {self._task}, there is nothing to take."
            methods = [c for c in found.candidates if not c.cell.baseline]
            if methods and not any(c.within_budget for c in methods):
                yield f"{self._no_fit()} No baseline scores above {floor}."
            else:
                yield f"Nothing scores above {floor}."
        else:
            yield f"On {self._task}, no method has a score yet."

    def _none_cheaper(self) -> str:
        """Why the highest is also what was taken."""
        chosen, by = _there(self.found.chosen), self.found.budget.cost_axis
        mine = chosen.costs.get(by)
        pool = [c for c in self.found.candidates if c.clear and c.within_budget and c is not chosen]
        cheaper = [c for c in pool if mine and by in c.costs and c.costs[by].value < mine.value]
        if not cheaper:
            return "none is known to be cheaper"
        said = join_names([self.title(c) for c in cheaper])
        if self.found.budget.max_loss_points is not None:
            return f"what is cheaper loses more than is allowed: {said}"
        return f"what is cheaper is clearly below it: {said}"

    def _scored(self, candidate: Candidate) -> str:
        costs = self._costs(candidate)
        said = f"{self.title(candidate)}: {_score(candidate)}"
        return f"{said}, {join_names(costs)}" if costs else said

    def _costs(self, candidate: Candidate) -> list[str]:
        return [
            format_cost(axis, candidate.costs[axis])
            for axis in dict.fromkeys((self.found.budget.cost_axis, *self.found.budget.limits))
            if axis in candidate.costs
        ]


def _there(candidate: Candidate | None) -> Candidate:
    assert candidate is not None  # noqa: S101
    return candidate


def _points(value: float) -> str:
    return pluralise(1, "point") if value == 1 else f"{value:g} points"


def _score(candidate: Candidate) -> str:
    flattered = f"; {SELECTED_ON_TEST}" if candidate.cell.selected_on_test else ""
    return f"{format_interval(candidate.interval)} ({format_basis(candidate.interval)}{flattered})"


def _command(cell: Cell, study: str, store: str | None) -> str:
    """What exports the configuration; nothing for a baseline that has no weights to export."""
    if cell.model == NO_MODEL:
        return ""
    asked = {"task": cell.task, "model": cell.model, "method": cell.method, "store": store}
    parts = ["paretune", "export", study]
    for option, value in asked.items():
        parts += [f"--{option}", value] if value is not None else []
    return sanitise_line(shlex.join(parts))
