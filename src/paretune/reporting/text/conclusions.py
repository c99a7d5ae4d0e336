"""What may be concluded of a task, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.comparisons import PairwiseComparisons
from paretune.analysis.racing.forecast import ChoiceForecast
from paretune.analysis.racing.rounds import DECIDED
from paretune.analysis.statistics.scores import TestDesign
from paretune.methods.baselines import WITH_MODEL
from paretune.methods.core.titles import title_of
from paretune.reporting.rows import CellRow, name_runs
from paretune.reporting.text.formatting import (
    SELECTED_ON_TEST,
    format_basis,
    format_interval,
    format_share,
    join_names,
)
from paretune.study import Study
from paretune.study.presets import load_preset
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line

MOST_CERTAIN = 0.998
"""Of what agrees in all of 500 completions."""


def write_conclusions(
    task: str,
    rows: Sequence[CellRow],
    baselines: Sequence[CellRow],
    comparisons: PairwiseComparisons,
) -> Iterable[str]:
    """Sentences on one task: what is above every baseline, what it costs, what collapsed.

    Args:
        task: its name.
        rows: of the methods.
        baselines: their rows.
        comparisons: of all these cells.
    """
    scored = [row for row in rows if row.interval is not None]
    models = len({row.model for row in rows})
    if not scored:
        highest = max((row for row in baselines if row.interval), key=_estimate, default=None)
        if rows or highest is None:
            yield f"On {task}, no method has a score yet."
        else:
            yield f"On {task}, only baselines were run; the highest is {_describe(highest)}."
    else:
        best = max(scored, key=_estimate)
        above = [row for row in scored if row.verdict is not None and row.verdict.above_all]
        if above:
            yield from _conclude_above(task, above, models, comparisons)
        else:
            verdict = f": {best.verdict.summary}" if best.verdict else ""
            yield (
                f"On {task}, no method is proven better than every baseline. "
                f"Scored highest: {_describe(best)}{verdict}."
            )
    yield from _conclude_lost(rows, baselines, models)


def write_further_conclusions(
    rows: Sequence[CellRow],
    baselines: Sequence[CellRow],
    comparisons: PairwiseComparisons,
    take: tuple[str, str],
) -> Iterable[str]:
    """What :func:`write_conclusions` adds to the advice to take ``take``, a model and method."""
    models = len({row.model for row in rows})
    above = [row for row in rows if row.verdict is not None and row.verdict.above_all]
    if len(above) > 1:
        named = _group_by_model(above, models)
        yield f"Proven better than every baseline{_of_trained(above)}: {named}."
    best = max(above, key=_estimate)
    rest = [row for row in above if row is not best]
    if below := _find_below(best, rest, comparisons):
        yield f"Of these, worse than the highest: {_group_by_model(below, models)}."
    measured = [row for row in rest if row.cost.memory.value is not None]
    least = min([*measured, best], key=lambda row: row.cost.memory.value or math.inf)
    if measured and (least.cell.model, least.cell.method) != take:
        yield f"Of these, the least memory in training: {least.title}, {least.cost.memory.text}."
    yield from _conclude_lost(rows, baselines, models)


def _conclude_above(
    task: str, above: Sequence[CellRow], models: int, comparisons: PairwiseComparisons
) -> Iterable[str]:
    best = max(above, key=_estimate)
    rest = [row for row in above if row is not best]
    if not rest:
        yield (
            f"On {task}, only {_describe(best)} is proven better than every baseline"
            f"{_of_trained(above)}."
        )
        return
    yield (
        f"On {task}, {_group_by_model(above, models)} are proven better than every baseline"
        f"{_of_trained(above)}; the highest is {_describe(best)}."
    )
    below = _find_below(best, rest, comparisons)
    if not below:
        yield "It is undecided between it and the others."
    elif len(below) < len(rest):
        yield f"Of the others, worse than it: {_group_by_model(below, models)}."
    else:
        yield "It is better than all others."
    measured = [row for row in above if row.cost.memory.value is not None]
    if len(measured) > 1:
        least = min(measured, key=lambda row: row.cost.memory.value or 0.0)
        of = "Of these" if len(measured) == len(above) else "Of these, as far as measured"
        yield f"{of}, {least.title} took the least memory in training: {least.cost.memory.text}."


def _conclude_lost(
    rows: Sequence[CellRow], baselines: Sequence[CellRow], models: int
) -> Iterable[str]:
    """Methods below the untuned model or level with it, collapsed and failed seeds."""
    if below := [row for row in rows if row.below_untuned]:
        yield (
            "Worse than the untuned model, so training lost what the model knew: "
            f"{_group_by_model(below, models)}."
        )
    untrained = dict.fromkeys(row.not_above_untrained for row in rows if row.not_above_untrained)
    for names in untrained:
        level = [row for row in rows if row.not_above_untrained == names]
        titles = join_names([title_of(name) for name in names])
        yield (
            f"Not proven better than the model without training ({titles}): "
            f"{_group_by_model(level, models)}."
        )
    trained = [*rows, *(row for row in baselines if row.cell.name in WITH_MODEL)]
    if unread := [(row, share) for row in trained if (share := row.cell.unread_share) > 0]:
        shares = join_names([f"{share:.1%} of {row.title}" for row, share in unread])
        yield f"No label was found in the texts of these answers, which count as wrong: {shares}."
    # Names are written as they are, so no sentence begins with one.
    forms = {
        "collapsed": "The same answer was given to every example by",
        "diverged": "Training diverged for",
        "out_of_memory": "Memory ran out for",
        "error": "An unexpected error stopped",
    }
    for outcome, form in forms.items():
        affected = [row for row in trained if row.cell.outcomes.get(outcome, 0)]
        if affected:
            count = sum(row.cell.outcomes[outcome] for row in affected)
            total = pluralise(sum(len(row.cell.final) for row in affected), "seed")
            yield f"{form} {_group_by_model(affected, models)}, in {count} of {total}."
    if failed := [row for row in trained if row.cell.all_trials_failed]:
        yield f"Every learning rate that was tried failed for {_group_by_model(failed, models)}."


def _group_by_model(rows: Sequence[CellRow], models: int) -> str:
    """``LoRA and DoRA on sloberta, and LoHa on xlm-r``; ``... on every model``."""
    methods: dict[str, list[str]] = {}
    for row in rows:
        methods.setdefault(row.model, []).append(row.method)
    models_by_methods: dict[tuple[str, ...], list[str]] = {}
    for model, names in methods.items():
        models_by_methods.setdefault(tuple(names), []).append(model)
    groups = []
    for names_of_group, models_of_group in models_by_methods.items():
        place = f" on {join_names(models_of_group)}"
        if len(models_of_group) == models:
            place = " on every model" if models > 1 else ""
        groups.append(join_names(names_of_group) + place)
    return groups[0] if len(groups) == 1 else ", and ".join([", ".join(groups[:-1]), groups[-1]])


def _of_trained(rows: Sequence[CellRow]) -> str:
    """The condition of a claim on rows of which runs failed."""
    failed = any(row.cell.failures is not None and row.cell.failures.failed for row in rows)
    return ", of runs that trained" if failed else ""


def _find_below(
    best: CellRow, rivals: Sequence[CellRow], comparisons: PairwiseComparisons
) -> list[CellRow]:
    """Those that are proven worse than ``best``."""
    pairs = ((row, comparisons.compare(best.cell, row.cell)) for row in rivals)
    return [row for row, pair in pairs if pair is not None and pair.standing == "above"]


def _describe(row: CellRow) -> str:
    """``LoRA, 0.77 [0.67, 0.86] (60 examples, 3 seeds)``."""
    if row.interval is None:
        return row.title
    selected = f"; {SELECTED_ON_TEST}" if row.cell.selected_on_test else ""
    return f"{row.title}, {format_interval(row.interval)} ({format_basis(row.interval)}{selected})"


def _estimate(row: CellRow) -> float:
    return row.interval.estimate if row.interval else -1.0


def describe_protocol(study: Study, cells: Sequence[Cell] = ()) -> str:
    """How the scores were obtained; of ``cells``, which may be cross-validated."""
    protocol = study.protocol
    if (preset := load_preset(protocol.preset)) is not None:
        return preset.description
    crossed = {cell.design.is_cross_validation for cell in cells if cell.interval is not None}
    seeds = pluralise(len(protocol.seeds), "fresh seed")
    part = "rows that no selection has used"
    claim = "" if len(protocol.seeds) >= 5 else " A claim needs at least five seeds."
    by_fold = ", one for each fold" if crossed == {True} else ""
    if protocol.trials == 1:
        return (
            "Fair protocol: every method trained with one learning rate; no other was tried. "
            f"Scores are of {seeds}{by_fold}, on {part}.{claim}"
        )
    folds = (
        f"the mean of {protocol.folds} folds of train (one part where train has 500 rows or more)"
        if protocol.folds > 1
        else "one selection part of train"
    )
    outside = "one part of the rows outside each outer fold"
    if crossed == {True}:
        folds = outside
    elif True in crossed:
        folds = f"{folds}, in cross-validation on {outside}"
    by_fold = by_fold and f"{by_fold},"
    searched = [m.key for m in study.all_methods if m.found_by_search]
    by_hand, of_search = "every method", ""
    if searched:
        by_hand = "every method that is set by hand"
        of_search = (
            f"; {join_names([sanitise_line(key) for key in searched])} spent budgets of trials, "
            "with the same seed, on combinations and their rates"
        )
    return (
        f"Fair protocol: {by_hand} tried {pluralise(protocol.trials, 'learning rate')} with a "
        f"tuning seed on {folds}{of_search}; scores are of {seeds}{by_fold} at the selected rate, "
        f"on {part}.{claim}"
    )


def describe_designs(study: Study, cells: Sequence[Cell]) -> Iterable[str]:
    """Which rows of each task are tested, and what that means for its scores."""
    rows: dict[TestDesign, dict[str, int]] = {}
    for cell in cells:
        if cell.interval is not None:
            by_task = rows.setdefault(replace(cell.design, repeats=1), {})
            by_task[cell.task] = max(cell.interval.n_examples, by_task.get(cell.task, 0))
    for design, by_task in rows.items():
        names = join_names([sanitise_line(task) for task in by_task])
        if design.is_cross_validation:
            sizes = join_names([f"{count:,}" for count in by_task.values()])
            yield (
                f"On {names} all rows ({sizes}) are tested, in outer cross-validation with "
                f"{design.folds} folds: each row is answered by a model that has not seen it. Such "
                "scores are not comparable with those on published splits, which `outer: split` "
                "gives."
            )
        elif study.protocol.preset != "paper":
            yield (
                f"On {names} all runs train on the same training set; the intervals do not cover "
                "how scores vary with the training set."
            )


def describe_unfinished(cell: Cell) -> str:
    """One line on a cell that is not finished."""
    name = f"{cell.task} / {title_of(cell.method)}"
    if cell.model != NO_MODEL:
        name = f"{cell.task} / {cell.model} / {title_of(cell.method)}"
    stages = []
    for stage, title in (("tune", "learning rates tried"), ("final", "final runs")):
        ended = len(cell.tuning if stage == "tune" else cell.final)
        running, todo = (cell.pending.get((stage, s), 0) for s in ("running", "todo"))
        total = max(ended + running + todo, cell.expected_runs if stage == "final" else 0)
        if total and (running or todo or ended or stage == "final"):
            active = f", {running} running" if running else ""
            stages.append(f"{title} {ended} of {total}{active}")
    return sanitise_line(f"{name}: {'; '.join(stages)}")


def write_race(forecast: ChoiceForecast, cells: Sequence[Cell]) -> Iterable[str]:
    """What the recommendation of a race stands for.

    Args:
        forecast: of the recommendation in question.
        cells: of its task.
    """
    methods = [cell for cell in cells if not cell.baseline]
    if not methods:
        return
    every = name_runs(methods[0])
    same = format_share(min(forecast.agreement, MOST_CERTAIN))
    answer = f"{every} of each method would give the same answer"
    if all(cell.complete for cell in methods):
        return
    if forecast.agreement >= DECIDED:
        yield f"A race: {same} likely, {answer}."
    elif all(cell.complete or cell.stop is not None for cell in methods):
        yield (
            f"A race to another question: only {same} likely, {answer}; protocol.race=off trains "
            "the rest."
        )
    else:
        yield f"The race is not over: {same} likely, {answer}."
    stopped = [cell for cell in methods if cell.stop == "no change" and not cell.complete]
    if stopped:
        named = [f"{sanitise_line(title_of(c.method))} after {len(c.final)}" for c in stopped]
        yield f"Stopped, since more runs could not change the choice: {join_names(named)}."
