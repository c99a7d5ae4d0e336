"""What may be concluded of a task, in sentences."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from paretune.analysis.cell import NO_MODEL, Cell, CellKey
from paretune.analysis.comparisons import PairwiseComparisons
from paretune.analysis.design import TestDesign
from paretune.analysis.pareto.recommend import Recommendation
from paretune.analysis.passes import WORTH_POINTS, count_pass_runs, decide_passes
from paretune.methods.baselines import WITH_MODEL, WITHOUT_TRAINING
from paretune.methods.core.titles import title_of
from paretune.reporting.rows import CellRow
from paretune.reporting.text.formatting import join_names
from paretune.study import Stage, Study
from paretune.study.presets import load_preset
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line


def write_conclusions(
    all_rows: Sequence[CellRow],
    comparisons: PairwiseComparisons,
    recommendation: Recommendation,
) -> Iterable[str]:
    """Write what the recommendation does not say: proofs, costs and failures.

    Args:
        all_rows: of one task.
        comparisons: of their cells.
        recommendation: for the task; what it says is not said again.
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
        chosen = recommendation.chosen
        if measured and (chosen is None or least.cell.key != chosen.cell.key):
            amount = f"{least.report.title}, {least.report.cost.memory.text}"
            yield f"Of these, the least memory in training: {amount}."
    collapsed = recommendation.collapsed_cells
    warned = {cell.key for cell in collapsed.cells} if collapsed else frozenset()
    yield from _conclude_lost(rows, baselines, models, comparisons, warned)
    of_models = dict.fromkeys(row.cell.model for row in all_rows)
    estimates = [pair.estimate for model in of_models for pair in comparisons.pairs(model)]
    corrected = [estimate for estimate in estimates if estimate.unlabelled]
    if corrected:
        ratios = [estimate.row_ratio for estimate in corrected]
        yield (
            f"Differences of methods are corrected by {corrected[0].unlabelled:,} unlabelled rows: "
            f"what rows add to their variance is {median(ratios):.2f} of what it was "
            f"({min(ratios):.2f} to {max(ratios):.2f})."
        )


def _conclude_lost(
    rows: Sequence[CellRow],
    baselines: Sequence[CellRow],
    models: int,
    comparisons: PairwiseComparisons,
    warned: Collection[CellKey],
) -> Iterable[str]:
    """Conclude on methods not above the untuned model, and on collapsed and failed seeds.

    Args:
        warned: cells of which a warning says that they collapsed.
    """
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
    also = "also " if warned else ""
    forms = {
        "collapsed": f"The same answer was {also}given to every example by",
        "diverged": "Training diverged for",
        "out_of_memory": "Memory ran out for",
        "error": "An unexpected error stopped",
    }
    for outcome, form in forms.items():
        affected = [row for row in trained if row.cell.outcomes.get(outcome, 0)]
        if outcome == "collapsed":
            affected = [row for row in affected if row.cell.key not in warned]
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
    """Say how the scores of ``cells`` were obtained, which may be cross-validated."""
    protocol = study.protocol
    if (preset := load_preset(protocol.preset)) is not None:
        return preset.description
    crossed = {cell.design.is_cross_validation for cell in cells if cell.interval is not None}
    if protocol.preset == "passes":
        return _describe_passes_protocol(study, crossed)
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


def _describe_passes_protocol(study: Study, crossed: Collection[bool]) -> str:
    """Say how the scores of ``preset: passes`` were obtained."""
    protocol = study.protocol
    rates = (
        "at the middle of its learning rates, and at the next ones where its runs diverged, did "
        "not fit their training rows, or were best at their start or end"
    )
    if protocol.trials > 1:
        rates = f"at {protocol.trials} learning rates"
    part = "selection parts of all folds together" if True in crossed else "selection part"
    end = (
        "every method has all its seeds"
        if protocol.until == "complete"
        else "further passes are not expected to change the answer"
    )
    return (
        f"Passes: every method is trained {rates}, and the best mean on the {part} counts; then "
        f"once more where the answer is open, until {end}. Scores are of runs on rows that trained "
        "and stopped none of them."
    )


def describe_designs(study: Study, cells: Sequence[Cell]) -> Iterable[str]:
    """Say which rows of each task are tested, and what that means for its scores."""
    rows: dict[TestDesign, dict[str, int]] = {}
    for cell in cells:
        if cell.interval is not None:
            by_task = rows.setdefault(replace(cell.design, repeats=1, answered=cell.folds), {})
            by_task[cell.task] = max(cell.interval.n_examples, by_task.get(cell.task, 0))
    for design, by_task in rows.items():
        names = join_names([sanitise_line(task) for task in by_task])
        if study.is_judged:
            if design.is_cross_validation:
                yield (
                    f"On {names} each row is answered by the run of its fold, of {design.folds}: "
                    "that this run has not seen it is taken from the files."
                )
        elif design.is_cross_validation:
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


def describe_scope(cells: Sequence[Cell]) -> str:
    """Say what intervals and claims leave out where the very models are judged; empty elsewhere."""
    if not any(cell.judged == "models" for cell in cells):
        return ""
    return (
        "One run of each method: differences between training runs are in none of these intervals, "
        "so claims are of these very models, and none is of a method."
    )


def describe_unfinished(cell: Cell) -> str:
    """Write a line on a cell that is not finished."""
    names = [cell.task, cell.model, title_of(cell.method)]
    name = " / ".join(part for part in names if part != NO_MODEL)
    stages = []
    titles: dict[Stage, str] = {"tune": "learning rates tried", "final": "final runs"}
    for stage, title in titles.items():
        ended, planned = cell.count_runs(stage)
        if planned:
            running = cell.pending.get((stage, "running"))
            active = f", {running} running" if running else ""
            stages.append(f"{title} {ended} of {planned}{active}")
    return sanitise_line(f"{name}: {'; '.join(stages)}")


def describe_passes(
    study: Study, cells: Sequence[Cell], recommendation: Recommendation
) -> Iterable[str]:
    """Say how far the passes of a task are, and what a further pass would bring.

    Args:
        cells: of the task.
    """
    methods = [cell for cell in cells if not cell.baseline and not cell.over_limit]
    if study.protocol.preset != "passes" or not methods or recommendation.chosen is None:
        return
    size = count_pass_runs(methods[0].folds, study.protocol.seeds)
    word = "fold" if methods[0].folds else "seed"
    fewest = min(len(cell.final) for cell in methods)
    if fewest < size:
        looked = "First look" if fewest < 2 else "So far"
        trade = _describe_trade(recommendation)
        ended = f"{fewest} of {pluralise(size, word)} of each method, {size - fewest} to go"
        yield f"{looked}: {'; '.join([*trade, ended])}."
        return
    state = decide_passes([c for c in cells if c.final or c.tuning or c.cost], study)
    passes = {cell.key: -(-len(cell.final) // size) for cell in methods}
    most = max(passes.values())
    repeated = [sanitise_line(title_of(c.method)) for c in methods if passes[c.key] == most]
    done = (
        f"all {pluralise(size, word)}" if most == 1 else f"{most} passes of {pluralise(size, word)}"
    )
    if most > 1 and len(repeated) < len(methods):
        done = f"{done} for {join_names(repeated)}, fewer for the others"
    if state.settled:
        worth = state.forecast.worth_points if state.forecast is not None else 0.0
        if worth < WORTH_POINTS:
            change = f"a further pass is expected to change it by {worth:.1f} points"
            yield f"Settled after {done}: {change}."
        else:
            yield f"All planned passes have ended ({done})."
        return
    names = [sanitise_line(title_of(c.method)) for c in methods if c.key in state.open]
    if names:
        yield f"After {done} it is open between {join_names(names)}; they are trained once more."


def _describe_trade(recommendation: Recommendation) -> Iterable[str]:
    """``LoRA costs 0 to 9 points beside full fine-tuning and saves 60 % of its memory``.

    The best cheaper method beside the dearest; nothing where no cost is known.
    """
    methods = [
        c
        for c in recommendation.candidates
        if not c.cell.baseline and c.within_budget and "memory" in c.costs
    ]
    if not methods:
        return
    dearest = max(methods, key=lambda c: c.costs["memory"].value)
    most = dearest.costs["memory"]
    cheaper = [c for c in methods if c.costs["memory"].value < most.value]
    if not cheaper:
        return
    cheap = max(cheaper, key=lambda c: c.expected.estimate)
    point = dearest.interval.highest / 100
    lost = (dearest.expected.draws - cheap.expected.draws) / point
    low, high = np.quantile(lost, [0.025, 0.975])
    cost = cheap.costs["memory"]
    saved = 1 - cost.value / most.value
    predicted = " (predicted)" if cost.predicted or most.predicted else ""
    names = [sanitise_line(title_of(c.cell.method)) for c in (cheap, dearest)]
    yield (
        f"{names[0]} costs {low:.0f} to {high:.0f} points beside {names[1]} and saves "
        f"{100 * saved:.0f} % of its memory{predicted}"
    )
