"""A recommendation in words: three lines for a screen, sentences for the page."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len

from paretune import metrics
from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.comparisons import describe_withheld
from paretune.analysis.pairs import Pair
from paretune.analysis.pareto.expected_scores import Prospect
from paretune.analysis.pareto.recommend import Candidate, Recommendation
from paretune.methods.baselines import TRIVIAL
from paretune.methods.core.titles import title_of
from paretune.reporting.text.conclusions import SELECTED_ON_TEST
from paretune.reporting.text.cost_amounts import LEAST_TITLES, format_cost, format_cost_share
from paretune.reporting.text.formatting import (
    format_basis,
    format_estimate,
    format_interval,
    format_point_difference,
    format_share,
    join_names,
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
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line

LINE_WIDTH = 80
"""Columns of a line of :attr:`Advice.lines`."""


@dataclass(frozen=True)
class Advice:
    """A recommendation on one task, as texts and the numbers behind them.

    Attributes:
        take: the recommended configuration, by its keys; empty where there is none.
        lines: at most three of ``LINE_WIDTH`` columns: what to take, why, what would change it.
        explanations: what the lines do not say: the interval, why this one, what is safe.
        changes: what would change it, most important first.
        command: exports the configuration; empty where it has no weights.
        kind: as in :class:`~paretune.analysis.pareto.recommend.Recommendation`.
        proven: whether it is proven better than every baseline.
        within_points: expected loss that is accepted for a lower cost.
        prospect: what taking it may bring; None where there is none.
        free_baseline: key of the best baseline without a model; empty where there is none.
        headline: the first line without the task: what to take, its score and what it costs.
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
    if untrained := _find_untrained(recommendation):
        # Baselines are quick: what they score says nothing yet of what to take.
        chosen = prospect = None
    if chosen is None or prospect is None:
        reasons = tuple(_explain_none(recommendation, untrained))
        lines, headline = tuple(fit_line([text]) for text in reasons), reasons[0]
    else:
        writer = _AdviceWriter(recommendation, chosen, prospect)
        lines, headline = tuple(writer.lines()), writer.headline()
        explanations = (*race, *writer.explanations())
        reasons = (*writer.statements(), *explanations)
    return Advice(
        task=sanitise_line(recommendation.task),
        take=titles.key(chosen.cell) if chosen else "",
        lines=lines,
        explanations=explanations,
        reasons=reasons,
        changes=() if untrained else tuple(write_changes(recommendation)),
        command=_write_command(chosen.cell, study, store) if chosen else "",
        warnings=() if untrained else tuple(_write_warnings(recommendation)),
        kind="none" if untrained else recommendation.kind,
        proven=chosen is not None and chosen.proven,
        within_points=recommendation.budget.within_points,
        prospect=prospect,
        free_baseline=titles.key(free.cell) if free else "",
        headline=headline,
        model=chosen.cell.model if chosen else "",
        method=chosen.cell.method if chosen else "",
    )


def _explain_unproven(pair: Pair) -> str:
    """Why it is undecided whatever the interval, else the interval."""
    if pair.withheld == "stopped":
        return "a race ended before all seeds were trained"
    if pair.withheld:
        return describe_withheld([pair.withheld])
    return format_point_difference(pair.corrected, negated=True)


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

    def headline(self) -> str:
        """``Take LoRA: 0.94 accuracy, a third of full fine-tuning's memory.``"""
        text = ", ".join(self._head())
        return f"{text[:1].upper()}{text[1:]}."

    def _head(self) -> list[str]:
        """``take LoRA: 0.94 accuracy``, ``a third of full fine-tuning's memory``.

        Where runs of it failed, the score is the expected one of a further run.
        """
        verb = {"guess": "the best guess is", "baseline": "take the baseline"}.get(
            self.recommendation.kind, "take"
        )
        score, metric = self.chosen.interval, metrics.get(self.chosen.cell.metric).title
        if self.chosen.failed_seeds:
            score = replace(score, estimate=self.chosen.expected.estimate)
            metric = f"{metric} expected"
        costs = [self._share()] if self._share() else self._costs()
        return [f"{verb} {self._title}: {format_estimate(score)} {metric}", *costs]

    def _share(self) -> str:
        """Its cost as a part of that of the dearest method; empty where it is not much less."""
        axis = self.recommendation.budget.cost_axis
        methods = [c for c in self.recommendation.candidates if not c.cell.baseline]
        of_model = [c for c in methods if c.cell.model == self.chosen.cell.model]
        dearest = max(
            (c for c in of_model if axis in c.costs),
            key=lambda c: c.costs[axis].value,
            default=None,
        )
        if dearest is None or axis not in self.chosen.costs or dearest.costs[axis].value <= 0:
            return ""
        share = self.chosen.costs[axis].value / dearest.costs[axis].value
        return format_cost_share(axis, share, self._title_of(dearest)) if share < 0.9 else ""

    def lines(self) -> Iterable[str]:
        """What to take; why; what would change it."""
        first, *others = self._head()
        yield fit_line([f"On {sanitise_line(self.recommendation.task)}, {first}", *others], ".")
        first, *others = self._why()
        yield fit_line([f"  {first}", *others], ".")
        if change := write_main_change(self.recommendation, LINE_WIDTH - len("  .")):
            yield fit_line([f"  {change}"], ".")

    def _why(self) -> Iterable[str]:
        """What is proven, then the chances; what counts least comes last."""
        below, free = self.prospect.chance_below_baseline, self.recommendation.free_baseline
        if self.chosen.cell.baseline:
            yield from self._describe_highest_method()
        elif self.chosen.proven:
            yield self._describe_proven()
        else:
            yield self._describe_unproven()
            if below is not None and free is not None:
                yield f"{format_share(below)} likely below {self._title_of(free)}"
        if (alternative := self.recommendation.best_alternative) is not None:
            yield f"cheaper than {self._title_of(alternative.candidate)}"
        yield f"expected loss {format_loss(self.prospect.loss_points)}"
        yield f"{format_share(self.prospect.chance_best)} likely best"

    def _describe_proven(self) -> str:
        if not self.chosen.failed_seeds:
            return "Proven better than every baseline"
        runs = pluralise(len(self.chosen.cell.final), "run")
        failed = f"{self.chosen.failed_seeds} of {runs} failed"
        return f"Proven better than every baseline, of runs that trained ({failed})"

    def _describe_unproven(self, of_interval: str = "") -> str:
        hardest = self.recommendation.hardest_comparison
        if hardest is None or hardest.pair is None:
            names = [title_of(sanitise_line(name)) for name in self.recommendation.missing]
            why = f"no score yet of {join_names(names)}" if names else "undecided against one"
            return f"Not proven better than every baseline: {why}"
        why = _explain_unproven(hardest.pair)
        if not hardest.pair.withheld:
            why += of_interval
        return f"Not proven better than {self._title_of(hardest.candidate)}: {why}"

    def statements(self) -> Iterable[str]:
        """The lines in sentences."""
        yield self.headline()
        if self.chosen.cell.baseline:
            yield f"{', '.join(self._describe_highest_method())}."
        elif self.chosen.proven:
            yield f"{self._describe_proven()} (95 %)."
        else:
            yield f"{self._describe_unproven(' (95 %, corrected)')}."
        yield self._describe_prospect()

    def explanations(self) -> Iterable[str]:
        """The score with its interval, why this one, and what is safe."""
        yield f"{self._describe_score()}."
        yield self._explain_choice()
        if self.recommendation.kind == "guess" and (safe := self._find_safe_baseline()):
            yield f"If a wrong switch is costly, stay with {safe} (--proven)."

    def _describe_prospect(self) -> str:
        prospect, free = self.prospect, self.recommendation.free_baseline
        chances = [
            f"best {format_share(prospect.chance_best)}",
            f"more than {self._within} below the best {format_share(prospect.chance_worse)}",
        ]
        if prospect.chance_below_baseline is not None and free is not None:
            below = format_share(prospect.chance_below_baseline)
            chances.append(f"below {self._title_of(free)} {below}")
        loss = format_loss(prospect.loss_points)
        return (
            f"If you train {self._title} once more, expect it to score {loss} below the best "
            f"method{self._inside}. Chances: {', '.join(chances)}."
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
            f"It has {least} of all that are expected to score within {self._within} of the best, "
            f"{best}"
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
            return "no method is known to be cheaper"
        gap = self.chosen.expected.estimate - best.expected.estimate
        points = 100 * gap / self.chosen.expected.score.highest
        title = self._title_of(best)
        loss = format_loss(points)
        return f"the best cheaper method, {title}, is expected to score {loss} less"

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
        side = "above" if points > 0 else "below"
        title = self._title_of(highest)
        loss, name = format_loss(abs(points)), self._title
        yield f"The best fine-tuned method, {title}, is expected {loss} {side} {name}"
        if points > 0 and not highest.proven:
            yield "which is not proven"

    @property
    def _inside(self) -> str:
        return " inside the budget" if self.recommendation.budget.limits else ""

    def _describe_score(self) -> str:
        """``Score: 0.77 [0.67, 0.86] (60 examples, 3 seeds), 870 MiB peak memory``."""
        interval, trained = self.chosen.interval, ""
        if self.chosen.failed_seeds:
            trained = "; only runs that trained"
        score = f"{format_interval(interval)} ({format_basis(interval)}{trained})"
        return f"Score: {', '.join([score, *self._costs()])}"

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
        names = join_names([title_of(sanitise_line(name)) for name in recommendation.missing])
        yield f"Not compared with {names}: no run has trained yet."
    waiting = [
        f"{titles.title(c)} {len(c.final)} of {pluralise(c.expected_runs, 'run')}"
        for c in recommendation.unfinished
        if c.method not in recommendation.missing
    ]
    if waiting:
        yield f"Not finished: {', '.join(waiting)}."


def _find_untrained(recommendation: Recommendation) -> tuple[Cell, ...]:
    """The methods still to be trained, where none of a task has ended a run yet."""
    waiting = tuple(c for c in recommendation.unfinished if not c.baseline)
    ended = any(not c.cell.baseline for c in recommendation.candidates)
    failed = any(not cell.baseline for cell in recommendation.failed_cells)
    return () if ended or failed else waiting


def _explain_none(recommendation: Recommendation, untrained: Sequence[Cell] = ()) -> Iterable[str]:
    """Why nothing can be recommended."""
    task, candidates = sanitise_line(recommendation.task), recommendation.candidates
    if untrained:
        titles = CandidateTitles(recommendation)
        names = join_names([titles.title(cell) for cell in untrained])
        yield f"On {task}, nothing has been trained yet."
        yield f"Still to run: {names}."
        return
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
