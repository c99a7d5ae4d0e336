"""A recommendation in sentences: what to take, why, and what would change it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from paretune.analysis.cells import NO_MODEL, Cell
from paretune.analysis.costs import TITLES, Axis, Spread
from paretune.analysis.interval import Interval
from paretune.analysis.needed import POWER, Needed
from paretune.analysis.recommend import Candidate, Recommendation
from paretune.report import words
from paretune.report.sentences import SELECTED_ON_TEST

_SAID: dict[Axis, str] = {
    "memory": "peak memory in training",
    "time": "to train",
    "step": "a step",
    "parameters": "trained parameters",
    "saved": "saved",
    "inference": "an example in inference",
}

MOST = {"seed": 1_000, "example": 100_000}
"""Above this many a number says only that two are practically equal."""


@dataclass(frozen=True)
class Advice:
    """``take`` names the configuration, empty where there is none; ``command`` exports it."""

    task: str
    take: str
    reasons: tuple[str, ...]
    changes: tuple[str, ...]
    command: str


def advice(found: Recommendation, study: str = "STUDY", store: str | None = None) -> Advice:
    """A recommendation as it is shown.

    Args:
        found: on one task.
        study: how the user calls the study, for the command.
        store: the folder of its results, where it is not the usual one.
    """
    said = _Said(found)
    if found.kind == "method":
        reasons = said.method()
    elif found.kind == "baseline":
        reasons = said.baseline()
    else:
        reasons = said.nothing()
    return Advice(
        task=words.plain(found.task),
        take=said.title(found.chosen) if found.chosen else "",
        reasons=tuple(reasons),
        changes=tuple(said.changes()),
        command=_command(found.chosen.cell, study, store) if found.chosen else "",
    )


@dataclass(frozen=True)
class _Said:
    """The sentences on one recommendation."""

    found: Recommendation

    def title(self, candidate: Candidate) -> str:
        """``lora on e5-small``; ``lora`` where the task has one model."""
        cell = candidate.cell
        models = {c.cell.model for c in self.found.candidates} - {NO_MODEL}
        alone = cell.model == NO_MODEL or len(models) < 2
        return words.plain(cell.method if alone else f"{cell.method} on {cell.model}")

    def method(self) -> Iterable[str]:
        """Two sentences on a method that was taken."""
        found, chosen = self.found, self.found.chosen
        assert chosen is not None  # noqa: S101
        inside = " inside the budget" if found.budget.limits else ""
        yield f"On {words.plain(found.task)}, take {self._scored(chosen)}."
        if found.to_best is None:
            if found.considered == 1:
                yield f"It is the only one{inside} that is clearly above every baseline."
            else:
                yield (
                    f"It is the highest of the {found.considered}{inside} that are clearly above "
                    f"every baseline, and {self._none_cheaper()}."
                )
            return
        best = f"{self.title(found.to_best.candidate)}, {_score(found.to_best.candidate)}"
        if found.budget.within is None:
            yield (
                f"It is the cheapest by {TITLES[found.budget.by]}{inside} of those clearly above "
                f"every baseline that cannot be told apart from the highest, {best}: that one "
                f"scores {_higher(found.to_best.difference)}."
            )
            return
        most = found.budget.within * found.to_best.difference.highest / 100
        shown = "is" if found.to_best.difference.high <= most else "is not"
        yield (
            f"It is the cheapest by {TITLES[found.budget.by]}{inside} within "
            f"{_points(found.budget.within)} of the highest, {best}: that one scores "
            f"{_higher(found.to_best.difference)}, so the loss {shown} shown to be so small."
        )

    def baseline(self) -> Iterable[str]:
        """Two sentences where no method inside is clearly above every baseline."""
        found, chosen = self.found, self.found.chosen
        assert chosen is not None  # noqa: S101
        inside = " inside the budget" if found.budget.limits else ""
        yield (
            f"On {words.plain(found.task)}, no method{inside} is clearly above every baseline, so "
            f"until more is known take the baseline {self._scored(chosen)}."
        )
        tops = [c for c in found.candidates if not c.cell.baseline and c.inside]
        top = max(tops, key=lambda c: c.interval.estimate, default=None)
        if top is None or top.verdict is None:
            yield self._no_top()
        else:
            yield (
                f"The highest method{inside} is {self.title(top)}, {_score(top)}: "
                f"{words.plain(top.verdict.words)}."
            )

    def _no_top(self) -> str:
        """Why no method is there to be named beside the baseline."""
        methods = [c for c in self.found.candidates if not c.cell.baseline]
        if not methods:
            return "No method has a score."
        if all(c.over for c in methods):
            return "No method fits the budget."
        return "No method is known to fit the budget: a limited cost was not measured."

    def nothing(self) -> Iterable[str]:
        """Why nothing can be recommended yet."""
        found = self.found
        if any(c.cell.selected_on_test for c in found.candidates):
            yield (
                f"On {words.plain(found.task)}, nothing is recommended: scores were "
                f"{SELECTED_ON_TEST} and not all baselines were run; protocol: fair has both."
            )
        elif found.missing and any(not c.cell.baseline for c in found.candidates):
            names = words.listed([words.plain(name) for name in found.missing])
            yield (
                f"On {words.plain(found.task)}, nothing can be recommended before these baselines "
                f"are there: {names}."
            )
        else:
            yield f"On {words.plain(found.task)}, no method has a score yet."

    def changes(self) -> Iterable[str]:
        """What would change the recommendation."""
        found = self.found
        if (rival := found.outside) is not None:
            excess = self._over(rival.candidate)
            chance = "more than chance" if rival.clear else "not clear"
            yield (
                f"A larger budget: {self.title(rival.candidate)} ({excess}) scores "
                f"{_higher(rival.difference)}, which is {chance}."
            )
        by = found.budget.by
        outside = [c for c in found.candidates if c.clear and c.over and by in c.costs]
        if found.kind == "baseline" and outside:
            least = min(outside, key=lambda c: c.costs[by].value)
            yield (
                f"The cheapest by {TITLES[by]} that is clearly above every baseline: "
                f"{self.title(least)}, {_score(least)} ({self._over(least)})."
            )
        if (rival := found.to_best) is not None and not rival.clear:
            better = f"To find out whether {self.title(rival.candidate)} is better"
            yield f"{better}: {decides(rival.needed)}."
        if (rival := found.promising) is not None:
            yield (
                f"To find out whether {self.title(rival.candidate)} is above the baseline that is "
                f"hardest to tell from it (it scores {_higher(rival.difference)}): "
                f"{decides(rival.needed)}."
            )
        elif found.kind == "baseline" and any(
            not c.cell.baseline and c.inside for c in found.candidates
        ):
            inside = " inside the budget" if found.budget.limits else ""
            yield (
                f"No method{inside} scores higher than all of its baselines: more seeds or "
                "examples are not likely to help; other rates, methods, models or data may."
            )
        if unclear := self._cheaper_unclear():
            said = [f"{self.title(c)}, {_score(c)}" for c in unclear]
            yield f"Cheaper, but not clearly above every baseline: {'; '.join(said)}."
        if found.unmeasured:
            said = [
                f"{self.title(c)} ({words.listed(_names(c.unknown))})" for c in found.unmeasured
            ]
            yield f"Not considered, since a limited cost was not measured: {'; '.join(said)}."
        yield from self._mishaps()
        if found.kind == "method" and found.chosen and found.chosen.interval.n_seeds < 3:
            seeds = words.counted(found.chosen.interval.n_seeds, "seed")
            yield f"{seeds} can tell little apart, so what is cheap stays in; a claim needs five."
        if found.unfinished:
            yield f"{words.counted(len(found.unfinished), 'cell')} of this task not finished yet."

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

    def _none_cheaper(self) -> str:
        """Why the highest is also what was taken."""
        chosen, by = self.found.chosen, self.found.budget.by
        assert chosen is not None  # noqa: S101
        mine = chosen.costs.get(by)
        pool = [c for c in self.found.candidates if c.clear and c.inside and c is not chosen]
        cheaper = [c for c in pool if mine and by in c.costs and c.costs[by].value < mine.value]
        if not cheaper:
            return f"none of them is known to be cheaper by {TITLES[by]}"
        said = words.listed([self.title(c) for c in cheaper])
        if self.found.budget.within is not None:
            return f"what is cheaper by {TITLES[by]} loses more than is allowed: {said}"
        return f"what is cheaper by {TITLES[by]} is clearly below it: {said}"

    def _cheaper_unclear(self) -> list[Candidate]:
        """Methods that cost less than what was taken, and are neither clear nor below."""
        found, by = self.found, self.found.budget.by
        if found.kind != "method" or found.chosen is None or by not in found.chosen.costs:
            return []
        most = found.chosen.costs[by].value
        return [
            c
            for c in found.candidates
            if not c.cell.baseline
            and not c.clear
            and c.verdict is not None
            and c.verdict.standing != "below"
            and by in c.costs
            and c.costs[by].value < most
        ]

    def _scored(self, candidate: Candidate) -> str:
        costs = [
            cost(axis, candidate.costs[axis])
            for axis in dict.fromkeys((self.found.budget.by, *self.found.budget.limits))
            if axis in candidate.costs
        ]
        said = f"{self.title(candidate)}: {_score(candidate)}"
        return f"{said}, with {words.listed(costs)}" if costs else said

    def _over(self, candidate: Candidate) -> str:
        if not candidate.over:
            return f"{words.listed(_names(candidate.unknown))} not measured"
        return words.listed([cost(axis, candidate.costs[axis]) for axis in candidate.over])


def decides(found: Needed) -> str:
    """What would decide a pair, in words."""
    now = f"in place of {found.seeds_now}"
    examples = f"{about(found.examples or 0, 'test example')} in place of {found.examples_now:,}"
    chance = f"found with {100 * POWER:.0f} % chance if the difference is what it looks like"
    if found.blind:
        if found.examples is None:
            return "one seed says nothing of seeds, and no number of test examples is known to do"
        return f"as far as examples go {examples} ({chance}); one seed says nothing of seeds"
    if found.seeds and found.examples:
        return f"{about(found.seeds, 'seed')} each {now}, or {examples} ({chance})"
    if found.seeds:
        return (
            f"{about(found.seeds, 'seed')} each {now} ({chance}); no number of test examples "
            "alone would do, since seeds differ too much"
        )
    if found.examples:
        why = (
            f"the {found.examples_now:,} test examples leave too much open"
            if found.varies
            else "they move nothing here"
        )
        return f"{examples} ({chance}); no number of seeds alone would do, since {why}"
    if found.both:
        seeds, some = found.both
        return (
            f"{about(seeds, 'seed')} each {now} together with {about(some, 'test example')} in "
            f"place of {found.examples_now:,} ({chance}); no number of seeds alone would do, and "
            "none of examples"
        )
    return "no number of seeds or test examples would do, since they score the same"


def cost(axis: Axis, found: Spread) -> str:
    """``870 MiB peak memory in training by one solo measurement``: with what it stands on."""
    said = f"{bare_cost(axis, found.value)} {_SAID[axis]}"
    if found.measurements == 0:
        return said
    solo = (
        "one solo measurement"
        if found.measurements == 1
        else f"{found.measurements} solo measurements"
    )
    steps = f" x the steps of {words.counted(found.seeds, 'seed')}" if found.seeds else ""
    return f"{said} by {solo}{steps}"


def bare_cost(axis: Axis, value: float) -> str:
    """A cost in the unit that suits it."""
    if axis in ("memory", "saved"):
        return words.size(value)
    if axis == "parameters":
        return words.parameters(value)
    if axis == "time" and value >= 120:
        return f"{value / 3600:.1f} h" if value >= 7200 else f"{value / 60:.1f} min"
    return words.seconds(value)


def about(count: int, noun: str) -> str:
    """``about 1,300 test examples``: rounded up to two digits, since it is not known exactly.

    Of what nobody would run (:data:`MOST`) only that it is more, not how many hundred thousand.
    """
    most = MOST[noun.split()[-1]]
    if count > most:
        return f"more than {most:,} {noun}s"
    step = 10 ** max(len(str(count)) - 2, 0)
    return f"about {words.counted(-(-count // step) * step, noun)}"


def _names(axes: Sequence[Axis]) -> list[str]:
    return [TITLES[axis] for axis in axes]


def _points(value: float) -> str:
    return words.counted(1, "point") if value == 1 else f"{value:g} points"


def _score(candidate: Candidate) -> str:
    flattered = f"; {SELECTED_ON_TEST}" if candidate.cell.selected_on_test else ""
    return f"{words.interval(candidate.interval)} ({words.basis(candidate.interval)}{flattered})"


def _higher(found: Interval) -> str:
    """``higher by 0.02 [-0.10, 0.14] (60 examples, 3 seeds)``."""
    return f"higher by {words.interval(found)} ({words.basis(found)})"


def _command(cell: Cell, study: str, store: str | None) -> str:
    """What exports the configuration; nothing for a baseline that has no weights to export."""
    if cell.model == NO_MODEL:
        return ""
    asked = {"task": cell.task, "model": cell.model, "method": cell.method, "store": store}
    parts = ["paretune", "export", study]
    for option, value in asked.items():
        parts += [f"--{option}", value] if value is not None else []
    return words.plain(shlex.join(parts))
