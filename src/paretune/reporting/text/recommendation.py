"""A recommendation in words: three lines for a screen, sentences for the page."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.pairwise_comparisons import describe_withheld
from paretune.analysis.pairwise_ranks import Pair
from paretune.analysis.pareto.expected_loss import Prospect
from paretune.analysis.pareto.recommendation import Candidate, Recommendation
from paretune.methods.baselines import TRIVIAL
from paretune.reporting.text.conclusions import SELECTED_ON_TEST
from paretune.reporting.text.cost_amounts import LEAST_TITLES, format_cost
from paretune.reporting.text.formatting import (
    format_basis,
    format_interval,
    format_point_difference,
    format_share,
    join_names,
    pluralise,
)
from paretune.reporting.text.recommendation_changes import (
    CandidateTitles,
    find_best_cheaper,
    format_loss,
    write_changes,
    write_main_change,
)
from paretune.reporting.text.unlearned import describe_trivial_score, warn_unlearned
from paretune.terminal.notebook import html_block, html_code, html_lines
from paretune.terminal.sanitise import sanitise_line

LINE_WIDTH = 80
"""Columns of a line of :attr:`Advice.lines`."""


@dataclass(frozen=True)
class Advice:
    """A recommendation on one task, as texts and the numbers behind them.

    Attributes:
        take: title of the recommended configuration; empty where there is none.
        lines: at most three of ``LINE_WIDTH`` columns: what to take, why, what would change it.
        explanations: what the lines do not say: why this one, what is safe.
        changes: what would change it, most important first.
        command: exports the configuration; empty where it has no weights.
        kind: as in :class:`~paretune.analysis.pareto.recommend.Recommendation`.
        proven: whether it is proven better than every baseline.
        within_points: expected loss that is accepted for a lower cost.
        prospect: what taking it may bring; None where there is none.
        free_baseline: the best baseline without a model; empty where there is none.
        model, method: keys of the recommended configuration; empty where there is none.
    """

    task: str
    take: str
    lines: tuple[str, ...]
    explanations: tuple[str, ...]
    reasons: tuple[str, ...]
    changes: tuple[str, ...]
    command: str
    warnings: tuple[str, ...] = ()
    kind: str = "none"
    proven: bool = False
    within_points: float = 1.0
    prospect: Prospect | None = None
    free_baseline: str = ""
    headline: str = ""
    model: str = ""
    method: str = ""

    def _repr_html_(self) -> str:
        command = html_code([self.command]) if self.command else ""
        return html_block(self.lines) + html_lines(self.changes) + command


def write_advice(
    recommendation: Recommendation,
    study: str = "STUDY",
    store: str | None = None,
    race: Sequence[str] = (),
) -> Advice:
    """Put a recommendation into words.

    Args:
        study: the study as the user typed it, for the command.
        store: the folder of its results, where it is not the default.
        race: what it stands for, of a raced study (:mod:`paretune.reporting.text.race`).
    """
    chosen, prospect = recommendation.chosen, recommendation.prospect
    free = recommendation.free_baseline
    titles = CandidateTitles(recommendation)
    explanations: tuple[str, ...] = ()
    headline = ""
    if chosen is None or prospect is None:
        reasons = tuple(_explain_none(recommendation))
        lines = tuple(fit_line([text]) for text in reasons)
    else:
        writer = _AdviceWriter(recommendation, chosen, prospect)
        lines, headline = tuple(writer.lines()), ", ".join(writer.head())
        explanations = (*race, *writer.explanations())
        reasons = (*writer.statements(), *explanations)
    return Advice(
        task=sanitise_line(recommendation.task),
        take=titles.title(chosen.cell) if chosen else "",
        lines=lines,
        explanations=explanations,
        reasons=reasons,
        changes=tuple(write_changes(recommendation)),
        command=_write_command(chosen.cell, study, store) if chosen else "",
        warnings=tuple(_write_warnings(recommendation)),
        kind=recommendation.kind,
        proven=chosen is not None and chosen.proven,
        within_points=recommendation.budget.within_points,
        prospect=prospect,
        free_baseline=titles.title(free.cell) if free else "",
        headline=headline,
        model=chosen.cell.model if chosen else "",
        method=chosen.cell.method if chosen else "",
    )


def _explain_unproven(pair: Pair, of_difference: str) -> str:
    """Why there is no verdict whatever the interval, else the interval."""
    if pair.withheld == "stopped":
        return "a race ended before all seeds were trained"
    if pair.withheld:
        return describe_withheld([pair.withheld])
    return format_point_difference(pair.corrected, negated=True) + of_difference


@dataclass(frozen=True)
class _AdviceWriter:
    """The sentences on one recommendation that has a configuration to take."""

    recommendation: Recommendation
    chosen: Candidate
    prospect: Prospect

    @property
    def _title(self) -> str:
        return self._title_of(self.chosen)

    def _title_of(self, candidate: Candidate) -> str:
        return CandidateTitles(self.recommendation).title(candidate.cell)

    @property
    def _within(self) -> str:
        return format_loss(self.recommendation.budget.within_points, "g")

    def head(self) -> list[str]:
        """``topics: take lora``, ``0.77 [0.67, 0.86]``, ``870 MiB peak memory``."""
        verb = {"guess": "best guess", "baseline": "take the baseline"}.get(
            self.recommendation.kind, "take"
        )
        task = sanitise_line(self.recommendation.task)
        score = format_interval(self.chosen.interval)
        return [f"{task}: {verb} {self._title}", score, *self._costs()]

    def lines(self) -> Iterable[str]:
        """What to take; why; what would change it."""
        yield fit_line(self.head(), ".")
        first, *others = self._why()
        yield fit_line([f"  {first}", *others], ".")
        if change := write_main_change(self.recommendation, LINE_WIDTH - len("  .")):
            yield fit_line([f"  {change}"], ".")

    def _why(self) -> Iterable[str]:
        """What is proven, then the chances; what counts least comes last."""
        below, free = self.prospect.chance_below_baseline, self.recommendation.free_baseline
        hardest = self.recommendation.hardest_comparison
        if self.chosen.cell.baseline:
            yield from self._describe_highest_method()
        elif self.chosen.proven:
            yield "Proven better than every baseline"
        else:
            if hardest is not None and hardest.pair is not None:
                other = self._title_of(hardest.candidate)
                yield f"Not proven: {_explain_unproven(hardest.pair, f' against {other}')}"
            else:
                yield f"Not proven: {self._describe_missing()}"
            if below is not None and free is not None:
                yield f"below {self._title_of(free)} with {format_share(below)}"
        if (alternative := self.recommendation.best_alternative) is not None:
            yield f"cheaper than {self._title_of(alternative.candidate)}"
        yield f"expected loss {format_loss(self.prospect.loss_points)}"
        yield f"best with {format_share(self.prospect.chance_best)}"

    def statements(self) -> Iterable[str]:
        """The lines in sentences."""
        task, text = sanitise_line(self.recommendation.task), self._describe()
        yield {
            "guess": f"On {task}, the best guess is {text}.",
            "baseline": f"On {task}, take the baseline {text}.",
        }.get(self.recommendation.kind, f"On {task}, take {text}.")
        yield self._describe_prospect()
        hardest = self.recommendation.hardest_comparison
        if self.chosen.cell.baseline:
            yield f"{', '.join(self._describe_highest_method())}."
        elif self.chosen.proven:
            yield "It is proven better than every baseline (95 %)."
        elif hardest is None or hardest.pair is None:
            yield f"It is not proven better than its baselines: {self._describe_missing()}."
        else:
            other = self._title_of(hardest.candidate)
            reason = _explain_unproven(hardest.pair, " (95 %, corrected)")
            yield f"It is not proven better than {other}: {reason}."

    def explanations(self) -> Iterable[str]:
        """Why this one, and what is safe."""
        yield self._explain_choice()
        if self.recommendation.kind == "guess" and (safe := self._find_safe_baseline()):
            yield f"If a wrong switch is costly, stay with {safe} (--proven)."

    def _describe_missing(self) -> str:
        names = [sanitise_line(name) for name in self.recommendation.missing]
        return f"no score yet of {join_names(names)}" if names else "no verdict against one of them"

    def _describe_prospect(self) -> str:
        prospect, free = self.prospect, self.recommendation.free_baseline
        chances = [
            f"the best {format_share(prospect.chance_best)}",
            f"more than {self._within} worse {format_share(prospect.chance_worse)}",
        ]
        if prospect.chance_below_baseline is not None and free is not None:
            below = format_share(prospect.chance_below_baseline)
            chances.append(f"below {self._title_of(free)} {below}")
        return (
            f"Its next run is expected to lose {format_loss(prospect.loss_points)} against the "
            f"best{self._inside}. Chances: {', '.join(chances)}."
        )

    def _explain_choice(self) -> str:
        """Why this one: the highest, or the cheapest near the highest."""
        alternative = self.recommendation.best_alternative
        if alternative is None:
            return (
                f"It has the highest expected score{self._inside}; {self._explain_none_cheaper()}."
            )
        least = LEAST_TITLES[self.recommendation.budget.cost_axis]
        if self.chosen.cell.model == NO_MODEL:
            least = "no training cost"
        best = self._title_of(alternative.candidate)
        text = (
            f"It has {least} of all that are expected within {self._within} of the highest, {best}"
        )
        if alternative.pair is None:
            return f"{text}{self._inside}."
        difference = format_interval(alternative.pair.difference)
        return f"{text}{self._inside} ({best} minus {self._title}: {difference})."

    def _explain_none_cheaper(self) -> str:
        if self.chosen.cell.model == NO_MODEL:
            return "nothing is cheaper"
        best = find_best_cheaper(self.recommendation)
        if best is None:
            return "none is known to be cheaper"
        gap = self.chosen.expected.estimate - best.expected.estimate
        points = 100 * gap / self.chosen.expected.score.highest
        title = self._title_of(best)
        return f"the best that is cheaper, {title}, is expected {format_loss(points)} lower"

    def _find_safe_baseline(self) -> str:
        """The highest baseline above the trivial score; empty where there is none."""
        trivial = self.recommendation.trivial_score
        baselines = [
            c
            for c in self.recommendation.candidates
            if c.cell.baseline and c.cell.name not in TRIVIAL and c.within_budget
            if trivial is None or c.interval.estimate > trivial.value
        ]
        best = max(baselines, key=lambda c: c.interval.estimate, default=None)
        return "" if best is None else self._title_of(best)

    def _describe_highest_method(self) -> Iterable[str]:
        """How the highest method within the budget compares with a baseline that is taken."""
        methods = [c for c in self.recommendation.candidates if not c.cell.baseline]
        within = [c for c in methods if c.within_budget]
        if not within:
            yield _explain_none_fits(self.recommendation)
            return
        highest = max(within, key=lambda c: c.expected.estimate)
        lead = highest.expected.estimate - self.chosen.expected.estimate
        points = lead * 100 / self.chosen.expected.score.highest
        side = "higher" if points > 0 else "lower"
        title = self._title_of(highest)
        yield f"The highest method is {title}, expected {format_loss(abs(points))} {side}"
        if points > 0 and not highest.proven:
            yield "not proven better"

    @property
    def _inside(self) -> str:
        return " inside the budget" if self.recommendation.budget.limits else ""

    def _describe(self) -> str:
        """``lora: 0.77 [0.67, 0.86] (60 examples, 3 seeds), 870 MiB peak memory``."""
        score = f"{format_interval(self.chosen.interval)} ({format_basis(self.chosen.interval)})"
        return f"{self._title}: {', '.join([score, *self._costs()])}"

    def _costs(self) -> list[str]:
        budget = self.recommendation.budget
        return [
            format_cost(axis, self.chosen.costs[axis])
            for axis in dict.fromkeys((budget.cost_axis, *budget.limits))
            if axis in self.chosen.costs
        ]


def _write_warnings(recommendation: Recommendation) -> Iterable[str]:
    """What must be known beside any recommendation."""
    titles, collapsed = CandidateTitles(recommendation), recommendation.collapsed_cells
    if collapsed is not None:
        methods = [c for c in recommendation.candidates if not c.cell.baseline]
        named = [titles.title(cell) for cell in collapsed.cells]
        only = {c.cell.method for c in methods} <= {c.method for c in collapsed.cells}
        yield warn_unlearned(collapsed, named, only)
    if recommendation.missing:
        names = join_names([sanitise_line(name) for name in recommendation.missing])
        yield f"Nothing is compared with these baselines (not run yet, or no run trained): {names}."
    waiting = [
        f"{titles.title(c)} {len(c.final)} of {pluralise(c.expected_runs, 'run')}"
        for c in recommendation.unfinished
        if c.method not in recommendation.missing
    ]
    if waiting:
        yield f"Not finished: {', '.join(waiting)}."


def _explain_none(recommendation: Recommendation) -> Iterable[str]:
    """Why nothing can be recommended."""
    task, candidates = sanitise_line(recommendation.task), recommendation.candidates
    methods = [c for c in candidates if not c.cell.baseline]
    with_model = any(c.cell.model != NO_MODEL for c in candidates)
    if any(c.cell.selected_on_test for c in candidates):
        yield f"On {task}, nothing is recommended: scores were {SELECTED_ON_TEST}."
        yield "protocol: fair avoids that."
    elif recommendation.trivial_score is not None and (with_model or recommendation.failed_cells):
        trivial = describe_trivial_score(recommendation.trivial_score)
        yield f"On {task}, there is nothing to take."
        if methods and not any(c.within_budget for c in methods):
            yield f"{_explain_none_fits(recommendation)}."
            yield f"No baseline scores above {trivial}."
        else:
            yield f"Nothing scores above {trivial}."
    else:
        yield f"On {task}, no method has a score yet."


def _explain_none_fits(recommendation: Recommendation) -> str:
    methods = [c for c in recommendation.candidates if not c.cell.baseline]
    if not methods:
        if recommendation.failed_cells:
            return "Every method failed in most of its runs"
        return "No method has a score beside the baselines"
    if all(c.exceeded for c in methods):
        return "No method fits the budget"
    return "No method is known to fit the budget: a limited cost was not measured"


def fit_line(parts: Sequence[str], end: str = "") -> str:
    """Parts joined by commas, as many as fit one line; a first one that does not is shortened."""
    fitting = list(parts)
    while len(fitting) > 1 and cell_len(", ".join(fitting) + end) > LINE_WIDTH:
        fitting.pop()
    text = ", ".join(fitting) + end
    if cell_len(text) <= LINE_WIDTH:
        return text
    while cell_len(text) >= LINE_WIDTH:
        text = text[:-1]
    return f"{text}…"


def _write_command(cell: Cell, study: str, store: str | None) -> str:
    """Exports the configuration; empty for a baseline that has no weights."""
    if cell.model == NO_MODEL:
        return ""
    options = {"task": cell.task, "model": cell.model, "method": cell.method, "store": store}
    parts = ["paretune", "export", study]
    for option, value in options.items():
        parts += [f"--{option}", value] if value is not None else []
    return sanitise_line(shlex.join(parts))
