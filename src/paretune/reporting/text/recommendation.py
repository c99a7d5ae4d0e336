"""A recommendation in sentences, each written once.

A sentence has clauses, the most important first: a line of a screen has as many as fit, a page has
all.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from paretune import metrics
from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.comparisons import describe_withheld
from paretune.analysis.learning_check import CollapsedCells
from paretune.analysis.pareto.expected_scores import ChanceName
from paretune.analysis.pareto.recommend import Candidate, Recommendation, may_be_chosen
from paretune.methods.baselines import TRIVIAL
from paretune.methods.core.titles import title_of
from paretune.reporting.parts import Advice, Sentence
from paretune.reporting.text.comparison import POWER_NOTE, describe_sample_size, has_number
from paretune.reporting.text.formatting import (
    COST_WORDS,
    SELECTED_ON_TEST,
    describe_chance,
    format_basis,
    format_cost,
    format_estimate,
    format_examples,
    format_interval,
    format_point_difference,
    format_rate,
    join_names,
)
from paretune.study import Axis
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line


def write_advice(
    recommendation: Recommendation,
    study: str = "STUDY",
    store: str | None = None,
    passes: Iterable[str] = (),
) -> Advice:
    """Put a recommendation into words.

    Args:
        study: the study as the user typed it, for the command.
        store: the folder of its results, where it is not the default.
        passes: how far the passes of the study are.
    """
    writer, free = _Writer(recommendation), recommendation.free_baseline
    # Baselines are quick: what they score says nothing of what to take before a method is trained.
    ended = [*(c.cell for c in recommendation.candidates), *recommendation.failed_cells]
    waiting = tuple(c for c in recommendation.unfinished if not c.baseline)
    untrained = waiting if all(cell.baseline for cell in ended) else ()
    chosen = None if untrained else recommendation.chosen
    if chosen is None:
        nothing, *why = writer.explain_none(untrained)
        lead = Sentence(about="take", text=nothing)
        details = [Sentence(about="proof", text=text) for text in why]
    else:
        lead = writer.write_lead()
        details = [Sentence.join("proof", [*writer.list_proofs()]), *writer.write_chances()]
    if not untrained:
        details += (Sentence(about="warning", text=text) for text in writer.list_warnings())
    if chosen is not None:
        details += (Sentence(about="passes", text=text) for text in passes)
        details += writer.write_explanations()
    if not untrained:
        details += (Sentence.join("change", clauses, "; ") for clauses in writer.list_changes())
    command = ""
    if chosen is not None and chosen.cell.has_export:
        cell = chosen.cell
        options = {"task": cell.task, "model": cell.model, "method": cell.method, "store": store}
        parts = ["paretune", "export", study]
        for option, value in options.items():
            parts += [f"--{option}", value] if value is not None else []
        command = shlex.join(parts)
    return Advice(
        task=sanitise_line(recommendation.task),
        take=writer.key(chosen.cell) if chosen else "",
        model=chosen.cell.model if chosen else "",
        method=chosen.cell.method if chosen else "",
        kind="none" if untrained else recommendation.kind,
        proven=chosen is not None and chosen.proven,
        within_points=recommendation.budget.within_points,
        prospect=recommendation.prospect if chosen else None,
        free_baseline=writer.key(free.cell) if free else "",
        lead=lead,
        details=tuple(details),
        command=sanitise_line(command),
    )


_SHARES = {2 / 3: "two thirds", 1 / 2: "half", 1 / 3: "a third", 1 / 4: "a quarter"}
_NEAR_SHARE = 0.9
"""A cost is not much less than another from this share of it on."""


@dataclass(frozen=True)
class _Writer:
    """The sentences on one recommendation."""

    recommendation: Recommendation

    def title(self, cell: Cell) -> str:
        """``LoRA on e5-small``; ``LoRA``, ``the linear probe`` where the task has one model."""
        article = "the " if cell.baseline and cell.model != NO_MODEL else ""
        return self._name_model(article + title_of(cell.method), cell)

    def key(self, cell: Cell) -> str:
        """The same with the method as in the study: ``lora on e5-small``."""
        return self._name_model(cell.method, cell)

    def _name_model(self, method: str, cell: Cell) -> str:
        models = {c.cell.model for c in self.recommendation.candidates} - {NO_MODEL}
        with_model = cell.model != NO_MODEL and len(models) > 1
        return sanitise_line(f"{method} on {cell.model}" if with_model else method)

    @property
    def _chosen(self) -> Candidate:
        chosen = self.recommendation.chosen
        if chosen is None:
            raise ValueError("nothing is recommended")
        return chosen

    @property
    def _methods(self) -> list[Candidate]:
        return [c for c in self.recommendation.candidates if not c.cell.baseline]

    @property
    def _is_alone(self) -> bool:
        """Whether the recommended configuration is compared with nothing."""
        recommendation = self.recommendation
        cells = [*recommendation.candidates, *recommendation.failed_cells]
        return recommendation.rival != "baseline" and len(cells) == 1

    @property
    def _inside(self) -> str:
        return " inside the budget" if self.recommendation.budget.limits else ""

    def write_lead(self) -> Sentence:
        """``Take LoRA: 0.94 accuracy, a third of full fine-tuning's memory.``

        Where runs failed, the score is expected of a further run.
        """
        chosen = self._chosen
        take = "take the baseline" if chosen.cell.model == NO_MODEL else "take"
        verb = "the best guess is" if self.recommendation.kind == "guess" else take
        if self._is_alone:
            verb = "the only score is that of"
        score, metric = chosen.interval, metrics.get(chosen.cell.metric).title
        if chosen.failed_seeds:
            score = replace(score, estimate=self.recommendation.prospects[chosen.cell.key].score)
            metric = f"{metric} expected"
        if chosen.cell.interval and score.n_examples < chosen.cell.interval.n_examples:
            metric = f"{'expected ' if chosen.failed_seeds else ''}on {format_examples(score)}"
        dearest = self._find_much_dearer()
        costs = [self._describe_cost_share(dearest)] if dearest else self._describe_costs()
        choice = f"{verb} {self.title(chosen.cell)}: {format_estimate(score)} {metric}"
        return Sentence.join("take", [choice, *costs])

    def _find_much_dearer(self) -> Candidate | None:
        """Find the dearest method of the model, where the recommended one costs much less."""
        axis, chosen = self.recommendation.budget.cost_axis, self._chosen
        of_model = [c for c in self._methods if c.cell.model == chosen.cell.model]
        costed = [c for c in of_model if axis in c.costs]
        dearest = max(costed, key=lambda c: c.costs[axis].value, default=None)
        if dearest is None or axis not in chosen.costs or dearest.costs[axis].value <= 0:
            return None
        is_near = chosen.costs[axis].value / dearest.costs[axis].value >= _NEAR_SHARE
        return None if is_near else dearest

    def _describe_cost_share(self, dearest: Candidate) -> str:
        """``a third of full fine-tuning's memory``; a percentage where no fraction is near."""
        axis, chosen = self.recommendation.budget.cost_axis, self._chosen
        share = chosen.costs[axis].value / dearest.costs[axis].value
        near = (text for part, text in _SHARES.items() if abs(share / part - 1) < 0.1)
        percent = "less than 1 %" if share < 0.01 else f"{100 * share:.0f} %"
        words = next(near, percent)
        predicted = any(c.costs[axis].predicted for c in (chosen, dearest))
        share_of = f"{words} of {self.title(dearest.cell)}'s {COST_WORDS[axis].share}"
        return f"{share_of} (predicted)" if predicted else share_of

    def _describe_costs(self) -> list[str]:
        budget, costs = self.recommendation.budget, self._chosen.costs
        axes = dict.fromkeys((budget.cost_axis, *budget.limits))
        return [format_cost(axis, costs[axis]) for axis in axes if axis in costs]

    def list_proofs(self) -> Iterable[str]:
        """List what is proven of the recommended configuration."""
        if self._chosen.cell.baseline:
            within = [c for c in self._methods if c.within_budget]
            if not within:
                yield self._explain_none_fits()
                return
            highest = max(within, key=lambda c: c.expected.estimate)
            points = _points_between(highest, self._chosen)
            side = "higher" if points > 0 else "lower"
            yield (
                f"The best fine-tuned method is {self.title(highest.cell)}, expected "
                f"{_format_points(abs(points))} {side}"
            )
            return
        chosen, hardest = self._chosen, self.recommendation.hardest_comparison
        if chosen.proven:
            lost = ""
            if chosen.failed_seeds:
                runs = pluralise(len(chosen.cell.final), "run")
                lost = f", of runs that trained ({chosen.failed_seeds} of {runs} failed)"
            yield f"Proven better than every {self.recommendation.rival}{lost}"
        elif self._is_alone:
            yield "There is nothing to compare it with"
        elif hardest is None or hardest.pair is None:
            missing = self.recommendation.missing
            if self.recommendation.rival != "baseline":
                missing = tuple(cell.method for cell in self.recommendation.failed_cells)
            names = [title_of(sanitise_line(name)) for name in missing]
            why = f"no score of {join_names(names)}" if names else "undecided against one"
            yield f"Not proven better than every {self.recommendation.rival}: {why}"
        else:
            pair = hardest.pair
            if pair.withheld:
                why = describe_withheld([pair.withheld])
            else:
                why = format_point_difference(pair.corrected, negated=True)
            yield f"Not proven better than {self.title(hardest.candidate.cell)}: {why}"
        alternative = self.recommendation.best_alternative
        # What the lead compares its cost with is not named again.
        if alternative is not None and alternative.candidate is not self._find_much_dearer():
            yield f"cheaper than {self.title(alternative.candidate.cell)}"

    def write_chances(self) -> Iterable[Sentence]:
        """Write what its next run may bring; the doubt comes first where nothing is proven."""
        prospect, free = self.recommendation.prospect, self.recommendation.free_baseline
        if prospect is None or self._is_alone:
            return
        within = _format_points(self.recommendation.budget.within_points, "g")
        chances = [
            (prospect.best, "the best"),
            (prospect.worse, f"over {within} below the best{self._inside}"),
        ]
        if prospect.below_baseline is not None and free is not None:
            below = prospect.below_baseline, f"below {self.title(free.cell)}"
            if not self._chosen.proven:
                chances.insert(0, below)
            elif prospect.below_baseline.name != "unlikely":
                chances.append(below)
        by_name: dict[ChanceName, list[str]] = {}
        for chance, event in chances:
            by_name.setdefault(chance.name, []).append(event)
        clauses = [describe_chance(name, " or ".join(events)) for name, events in by_name.items()]
        yield Sentence.join("chances", clauses)

    def write_explanations(self) -> Iterable[Sentence]:
        """Write the score with its interval, the reason of the choice, and what is safe."""
        chosen, trivial = self._chosen, self.recommendation.trivial_score
        trained = "; only runs that trained" if chosen.failed_seeds else ""
        score = f"{format_interval(chosen.interval)} ({format_basis(chosen.interval)}{trained})"
        # Without a share of another's cost the lead has the costs.
        costs = self._describe_costs() if self._find_much_dearer() else []
        yield Sentence.join("score", [f"Score: {score}", *costs])
        if not self._is_alone:
            yield Sentence(about="reason", text=self._explain_choice())
        if self.recommendation.kind != "guess":
            return
        safe = [
            c
            for c in self.recommendation.candidates
            if c.cell.baseline and c.cell.name not in TRIVIAL and c.within_budget
            if trivial is None or c.interval.estimate > trivial.value
        ]
        if safe:
            best = self.title(max(safe, key=lambda c: c.interval.estimate).cell)
            text = f"If a wrong switch is costly, stay with {best} (--proven)."
            yield Sentence(about="safe", text=text)

    def _explain_choice(self) -> str:
        """Explain the choice: the highest, or the cheapest near the highest."""
        chosen, budget = self._chosen, self.recommendation.budget
        alternative, cheaper = self.recommendation.best_alternative, self._find_best_cheaper()
        free = chosen.cell.model == NO_MODEL
        if alternative is not None:
            best = self.title(alternative.candidate.cell)
            least = "no training cost" if free else COST_WORDS[budget.cost_axis].least
            difference = ""
            if alternative.pair is not None:
                difference = format_interval(alternative.pair.difference)
                difference = f" ({best} minus {self.title(chosen.cell)}: {difference})"
            return (
                f"It has {least} of all that are expected to score within "
                f"{_format_points(budget.within_points, 'g')} of the best, {best}{self._inside}"
                f"{difference}."
            )
        if free:
            none = "; nothing is cheaper"
        elif cheaper is None:
            none = "; no method is known to be cheaper"
        elif cheaper.cell.model == NO_MODEL:
            loss = _format_points(_points_between(chosen, cheaper))
            none = (
                f"; the best cheaper method, {self.title(cheaper.cell)}, is expected to score "
                f"{loss} less"
            )
        else:
            none = ""  # what would change the choice names it
        return f"It has the highest expected score{self._inside}{none}."

    def _find_best_cheaper(self) -> Candidate | None:
        """Find the highest expected score among what costs less than the recommended one."""
        chosen, axis = self._chosen, self.recommendation.budget.cost_axis
        if chosen.cell.model == NO_MODEL:
            return None
        cost = chosen.costs.get(axis)
        cheaper = [
            c
            for c in self.recommendation.candidates
            if c.cell.key in self.recommendation.prospects
            if c.cell.model == NO_MODEL
            or (
                may_be_chosen(c, self.recommendation.trivial_score)
                and cost
                and axis in c.costs
                and c.costs[axis].value < cost.value
            )
        ]
        return max(cheaper, key=lambda c: c.expected.estimate, default=None)

    def list_changes(self) -> Iterable[list[str]]:
        """List what would change the recommendation, the most important first, in clauses."""
        recommendation = self.recommendation
        edges: dict[str, list[str]] = {}
        cells = [*(c.cell for c in self._methods), *recommendation.failed_cells]
        for cell in {cell.key: cell for cell in cells}.values():
            if cell.edge:
                edges.setdefault(cell.edge, []).append(
                    f"{self.title(cell)} ({format_rate(cell.rate)})"
                )
        for end, names in edges.items():
            rates = "higher" if end == "highest" else "lower"
            yield [f"Try {rates} rates for {join_names(names)}: the {end} tried was best"]
        yield from self._describe_other_budgets()
        by_cost = [*self._describe_other_costs()] if recommendation.chosen else []
        runner_up = recommendation.runner_up
        if runner_up is not None and runner_up.candidate is self._find_best_cheaper():
            yield from by_cost  # nearer than more seeds
            by_cost = []
        best = recommendation.best_alternative
        hardest = recommendation.hardest_comparison
        undecided = {
            rival.candidate.cell.key: rival
            for rival in (best, runner_up, hardest)
            if rival and rival.pair and rival.pair.standing == "unclear"
        }
        blind: list[list[str]] = []
        sized: list[list[str]] = []
        for alternative in undecided.values():
            if (size := alternative.sample_size) is not None:
                titles = self.title(alternative.candidate.cell), self.title(self._chosen.cell)
                (blind if size.blind else sized).append(describe_sample_size(size, *titles))
        yield from sized
        yield from by_cost
        yield from blind
        if recommendation.unmeasured_candidates:
            names = [
                f"{self.title(c.cell)} ({_name_costs(c.unmeasured)})"
                for c in recommendation.unmeasured_candidates
            ]
            yield ["Not considered, since a limited cost was not measured: " + "; ".join(names)]
        chosen = recommendation.chosen
        if chosen is not None and chosen.failed_seeds:
            runs = pluralise(len(chosen.cell.final), "run")
            failed = f"{chosen.failed_seeds} of {runs} of {self.title(chosen.cell)} failed"
            if chosen.proven:  # the proof says how many
                yield ["The expected score counts the runs that failed"]
            else:
                yield [failed, "the expected score counts that"]
        if any(has_number(rival.sample_size) for rival in undecided.values() if rival.sample_size):
            yield [POWER_NOTE]

    def _describe_other_budgets(self) -> Iterable[list[str]]:
        higher, axis = self.recommendation.outside_budget, self.recommendation.budget.cost_axis
        if higher is not None:
            title, excess = self.title(higher.candidate.cell), _format_excess(higher.candidate)
            by = [format_point_difference(higher.pair.difference)] if higher.pair else []
            yield [f"With a larger budget, {title} scored higher ({excess})", *by]
        elif self.recommendation.chosen is None:
            proven = [c for c in self.recommendation.candidates if c.proven and c.exceeded]
            costed = [c for c in proven if axis in c.costs]
            if costed:
                cheapest = min(costed, key=lambda c: c.costs[axis].value)
                yield [
                    f"Proven better than every baseline, with {COST_WORDS[axis].least}: "
                    f"{self.title(cheapest.cell)}, {format_interval(cheapest.interval)} "
                    f"({_format_excess(cheapest)})"
                ]

    def _describe_other_costs(self) -> Iterable[list[str]]:
        """Name losses that are not accepted, and limits under the cost of what is recommended."""
        chosen, axis = self._chosen, self.recommendation.budget.cost_axis
        if (alternative := self.recommendation.best_alternative) is not None:
            best = alternative.candidate
            points = _format_points(_points_between(best, chosen))
            yield [f"If {points} matter, take {self.title(best.cell)} (--within 0)"]
        cheaper = self._find_best_cheaper()
        if cheaper is not None and cheaper.cell.model != NO_MODEL and axis in chosen.costs:
            limit = COST_WORDS[axis].write(chosen.costs[axis].value)
            lower = _format_points(_points_between(chosen, cheaper))
            yield [f"With less than {limit}, take {self.title(cheaper.cell)}: {lower} less"]

    def list_warnings(self) -> Iterable[str]:
        """List what must be known beside any recommendation."""
        recommendation = self.recommendation
        if recommendation.collapsed_cells is not None:
            yield self._warn_unlearned(recommendation.collapsed_cells)
        if recommendation.missing:
            names = join_names([title_of(sanitise_line(name)) for name in recommendation.missing])
            yield f"Not compared with {names}: no run trained."
        waiting: dict[str, list[str]] = {}
        for c in recommendation.unfinished:
            if c.method not in recommendation.missing:
                ended, planned = c.count_runs("final")
                tried, rates = c.count_runs("tune")
                runs = f"{ended} of {pluralise(planned, 'run')}"
                if tried < rates:
                    runs = f"{runs}, {tried} of {pluralise(rates, 'rate')} tried"
                waiting.setdefault(runs, []).append(self.title(c))
        if waiting:
            parts = [
                f"{join_names(names)} ({runs}{' each' if len(names) > 1 else ''})"
                for runs, names in waiting.items()
            ]
            yield f"Not finished: {'; '.join(parts)}."

    def _warn_unlearned(self, collapsed: CollapsedCells) -> str:
        """Warn of training that taught nothing; more steps or other rates may help."""
        subject = "Nothing learned"
        if {c.cell.method for c in self._methods} - {c.method for c in collapsed.cells}:
            subject += f" by {join_names([self.title(cell) for cell in collapsed.cells])}"
        steps = ""
        if collapsed.steps:
            fewest, most = collapsed.steps
            span = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
            steps = f" after {span} steps"
        verb = "gives" if collapsed.constant == 1 else "give"
        rates = [trial.rate for cell in collapsed.cells for trial in cell.choice.table]
        remedy = "train longer or raise the learning rate"
        if collapsed.edges == {"lowest"}:
            lowest = format_rate(min(rates))
            remedy = f"train longer or lower the learning rate ({lowest} is the lowest tried)"
        elif "highest" in collapsed.edges:
            remedy += f" ({format_rate(max(rates))} is the highest tried)"
        finals = [r for cell in collapsed.cells for r in cell.final if r.outcome == "collapsed"]
        curves = [curve for r in finals if (curve := r.result.get("curve"))]
        if 2 * sum(2 * curve[-1]["loss"] < curve[0]["loss"] for curve in curves) > len(finals):
            remedy = (
                "the training loss fell by more than half: label more rows before training longer"
            )
        return (
            f"{subject}: {collapsed.constant} of {pluralise(collapsed.seeds, 'seed')} {verb} every "
            f"example the same answer{steps}; {remedy}."
        )

    def explain_none(self, untrained: Sequence[Cell]) -> Iterable[str]:
        """Say why nothing can be recommended."""
        recommendation, candidates = self.recommendation, self.recommendation.candidates
        if untrained:
            yield "Nothing has been trained yet."
            yield f"Still to run: {join_names([self.title(cell) for cell in untrained])}."
            return
        trivial = recommendation.trivial_score
        with_model = any(c.cell.model != NO_MODEL for c in candidates)
        if any(c.cell.selected_on_test for c in candidates):
            yield f"Nothing is recommended: scores were {SELECTED_ON_TEST}."
            yield "preset: passes, the default, avoids that."
        elif trivial is not None and (with_model or recommendation.failed_cells):
            value = f"{trivial.value:.{1 if trivial.highest > 1 else 2}f}"
            answer = f"{_TRIVIAL_ANSWERS[trivial.answer]} ({value})"
            yield "There is nothing to take."
            if self._methods and not any(c.within_budget for c in self._methods):
                yield f"{self._explain_none_fits()}."
                yield f"No baseline scores above {answer}."
            else:
                yield f"Nothing scores above {answer}."
        else:
            yield "No method has a score yet."

    def _explain_none_fits(self) -> str:
        if not self._methods:
            if self.recommendation.failed_cells:
                return "Every method failed in most of its runs"
            return "No method has a score beside the baselines"
        if all(c.exceeded for c in self._methods):
            return "No method fits the budget"
        return "No method is known to fit the budget: a limited cost was not measured"


_TRIVIAL_ANSWERS = {
    "majority": "the constant answer",
    "label": "one label for every test example",
    "copy_source": "the copied source",
    "frequent_text": "the most frequent text",
}


def _format_points(points: float, form: str = ".1f") -> str:
    """``0.4 points``; ``1 point``."""
    text = f"{points:{form}}"
    return f"{text} {'point' if text == '1' else 'points'}"


def _points_between(higher: Candidate, lower: Candidate) -> float:
    """How much more the first is expected to score than the second, in points."""
    difference = higher.expected.estimate - lower.expected.estimate
    return 100 * difference / higher.expected.score.highest


def _name_costs(axes: Sequence[Axis]) -> str:
    return join_names([COST_WORDS[axis].title for axis in axes])


def _format_excess(candidate: Candidate) -> str:
    """Name the costs that exceed the budget, or that were not measured."""
    if not candidate.exceeded:
        return f"{_name_costs(candidate.unmeasured)} not measured"
    return join_names([format_cost(axis, candidate.costs[axis]) for axis in candidate.exceeded])
