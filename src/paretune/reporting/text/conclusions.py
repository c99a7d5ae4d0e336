"""What may be concluded of a task, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.comparisons import PairwiseComparisons
from paretune.analysis.pareto.recommend import Recommendation
from paretune.analysis.racing import DECIDED, foresee_choice
from paretune.analysis.statistics.scores import TestDesign
from paretune.methods.baselines import WITH_MODEL, WITHOUT_TRAINING
from paretune.methods.core.titles import title_of
from paretune.reporting.parts import name_chance
from paretune.reporting.rows import CellRow, name_runs
from paretune.reporting.text.formatting import join_names
from paretune.study import Study
from paretune.study.presets import load_preset
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line


def write_conclusions(
    all_rows: Sequence[CellRow], comparisons: PairwiseComparisons, take: tuple[str, str]
) -> Iterable[str]:
    """What the recommendation does not say: which are proven, what they cost, what failed.

    Args:
        all_rows: of one task.
        comparisons: of their cells.
        take: the recommended model and method.
    """
    rows = [row for row in all_rows if not row.cell.baseline]
    baselines = [row for row in all_rows if row.cell.baseline]
    models = len({row.cell.model for row in rows})
    above = [row for row in rows if row.report.verdict and row.report.verdict.above_all]
    if len(above) > 1:
        failed = any(row.cell.failures and row.cell.failures.failed for row in above)
        condition = ", of runs that trained" if failed else ""
        yield f"Proven better than every baseline{condition}: {_group_by_model(above, models)}."
    if above:
        best = max(above, key=lambda row: row.cell.interval.estimate if row.cell.interval else -1.0)
        rest = [row for row in above if row is not best]
        pairs = [(row, comparisons.compare(best.cell, row.cell)) for row in rest]
        if below := [row for row, pair in pairs if pair and pair.standing == "above"]:
            yield f"Of these, worse than the highest: {_group_by_model(below, models)}."
        measured = [row for row in rest if row.report.cost.memory.value is not None]
        least = min([*measured, best], key=lambda row: row.report.cost.memory.value or math.inf)
        if measured and (least.cell.model, least.cell.method) != take:
            amount = f"{least.report.title}, {least.report.cost.memory.text}"
            yield f"Of these, the least memory in training: {amount}."
    yield from _conclude_lost(rows, baselines, models, comparisons)


def _conclude_lost(
    rows: Sequence[CellRow],
    baselines: Sequence[CellRow],
    models: int,
    comparisons: PairwiseComparisons,
) -> Iterable[str]:
    """Methods below the untuned model or level with it, collapsed and failed seeds."""
    untuned = {row.report.method for row in baselines if row.cell.name == "untuned"}
    untrained = {row.report.method for row in baselines if row.cell.name in WITHOUT_TRAINING}
    below: list[CellRow] = []
    level: dict[tuple[str, ...], list[CellRow]] = {}
    for row in rows:
        standings = {
            baseline.report.method: pair.standing
            for baseline in baselines
            if baseline.cell.model in (NO_MODEL, row.cell.model)
            and (pair := comparisons.compare(row.cell, baseline.cell))
        }
        lost = {name for name in untuned if standings.get(name) == "below"}
        below += [row] if lost else []
        # Worse than the untuned model is a sentence of its own.
        unproven = (n for n in standings if n in untrained - lost and standings[n] != "above")
        if names := tuple(unproven):
            level.setdefault(names, []).append(row)
    if below:
        yield (
            "Worse than the untuned model, so training lost what the model knew: "
            f"{_group_by_model(below, models)}."
        )
    for names, of_names in level.items():
        titles = join_names([title_of(name) for name in names])
        yield (
            f"Not proven better than the model without training ({titles}): "
            f"{_group_by_model(of_names, models)}."
        )
    trained = [*rows, *(row for row in baselines if row.cell.name in WITH_MODEL)]
    if unread := [(row, share) for row in trained if (share := row.cell.unread_share) > 0]:
        shares = join_names([f"{share:.1%} of {row.report.title}" for row, share in unread])
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
        methods.setdefault(row.report.model_label, []).append(row.report.label)
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
    searched = [m.key for m in study.all_methods if m.proposer is not None]
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
            by_task = rows.setdefault(replace(cell.design, repeats=1, answered=cell.folds), {})
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


def describe_race(
    study: Study, cells: Sequence[Cell], recommendation: Recommendation
) -> Iterable[str]:
    """What a recommendation stands for, of a raced study; of another nothing.

    Args:
        cells: of its task.
    """
    methods = [cell for cell in cells if not cell.baseline]
    if study.protocol.race == "off" or all(cell.complete for cell in methods):
        return
    forecast = foresee_choice(cells, study.protocol, recommendation)
    every = name_runs(methods[0])
    answer = f"{every} of each method would give the same answer"
    name = name_chance(forecast.agreement)
    same = "open whether" if name == "open" else f"{name} that"
    if forecast.agreement >= DECIDED:
        yield f"A race: {same} {answer}."
    elif all(cell.complete or cell.stop is not None for cell in methods):
        yield (f"A race to another question: {same} {answer}; protocol.race=off trains the rest.")
    else:
        yield f"The race is not over: {same} {answer}."
    stopped = [cell for cell in methods if cell.stop == "no change" and not cell.complete]
    if stopped:
        named = [f"{sanitise_line(title_of(c.method))} after {len(c.final)}" for c in stopped]
        yield f"Stopped, since more runs could not change the choice: {join_names(named)}."
