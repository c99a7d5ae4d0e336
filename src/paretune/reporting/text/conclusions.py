"""What may be concluded, in sentences; what may not is said too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from paretune.analysis.cells import NO_MODEL, Cell
from paretune.analysis.pairwise_comparisons import PairwiseComparisons
from paretune.methods.baselines import WITH_MODEL
from paretune.reporting.rows import Row
from paretune.reporting.text.formatting import format_basis, format_interval, join_names, pluralise
from paretune.study import Study
from paretune.terminal.sanitise import sanitise_line

SELECTED_ON_TEST = "selected on the test part"


def write_conclusions(
    task: str, rows: Sequence[Row], baselines: Sequence[Row], decided: PairwiseComparisons
) -> Iterable[str]:
    """Sentences on one task: what is above every baseline, what it costs, what collapsed."""
    ended = [r for r in rows if r.interval is not None]
    models = len({r.model for r in rows})
    if not ended:
        highest = max((r for r in baselines if r.interval), key=_estimate, default=None)
        if rows or highest is None:
            yield f"On {task}, no method has a score yet."
        else:
            yield f"On {task}, only baselines were run; the highest is {_scored(highest)}."
    else:
        best = max(ended, key=_estimate)
        above = [r for r in ended if r.verdict is not None and r.verdict.above_all]
        if above:
            yield from _above(task, above, models, decided)
        else:
            words_of = f": {best.verdict.summary}" if best.verdict else ""
            yield (
                f"On {task}, nothing is clearly above every baseline. "
                f"The highest is {_scored(best)}{words_of}."
            )
    yield from _losing(rows, models)
    yield from _mishaps([*rows, *(r for r in baselines if r.cell.name in WITH_MODEL)], models)


def write_further_conclusions(
    rows: Sequence[Row], baselines: Sequence[Row], decided: PairwiseComparisons, taken: str
) -> Iterable[str]:
    """What :func:`write_conclusions` adds to the advice to take ``taken``, a method's title."""
    models = len({r.model for r in rows})
    above = [r for r in rows if r.verdict is not None and r.verdict.above_all]
    if len(above) > 1:
        yield f"Clearly above every baseline: {_together(above, models)}."
    top = max(above, key=_estimate)
    others = [r for r in above if r is not top]
    if below := _below(top, others, decided):
        yield f"Of these, clearly below the highest: {_together(below, models)}."
    weighed = [r for r in others if r.cost.memory.value is not None]
    least = min([*weighed, top], key=lambda r: r.cost.memory.value or math.inf)
    if weighed and least.title != taken:
        yield f"Of these, the least memory in training: {least.title}, {least.cost.memory.text}."
    yield from _losing(rows, models)
    yield from _mishaps([*rows, *(r for r in baselines if r.cell.name in WITH_MODEL)], models)


def _losing(rows: Sequence[Row], models: int) -> Iterable[str]:
    if losing := [r for r in rows if r.below_untuned]:
        yield (
            f"Clearly below the untuned model, and so losing what it knows: "
            f"{_together(losing, models)}."
        )


def _above(
    task: str, above: Sequence[Row], models: int, decided: PairwiseComparisons
) -> Iterable[str]:
    top = max(above, key=_estimate)
    others = [r for r in above if r is not top]
    if not others:
        yield f"On {task}, only {_scored(top)} is clearly above every baseline."
        return
    yield (
        f"On {task}, {_together(above, models)} are clearly above every baseline; "
        f"the highest is {_scored(top)}."
    )
    below = _below(top, others, decided)
    if not below:
        yield "Between it and the others there is no clear difference."
    elif len(below) < len(others):
        yield f"Of the others, clearly below it: {_together(below, models)}."
    else:
        yield "It is clearly above all others."
    weighed = [r for r in above if r.cost.memory.value is not None]
    if len(weighed) > 1:
        least = min(weighed, key=lambda r: r.cost.memory.value or 0.0)
        whole = "Of these" if len(weighed) == len(above) else "Of these, as far as measured"
        yield (
            f"{whole}, {least.title} took the least memory in training: {least.cost.memory.text}."
        )


def _together(rows: Sequence[Row], models: int) -> str:
    """``full and lora on sloberta, and loha on xlm-r``; ``... on every model``."""
    methods: dict[str, list[str]] = {}
    for row in rows:
        methods.setdefault(row.model, []).append(row.method)
    alike: dict[tuple[str, ...], list[str]] = {}
    for model, names in methods.items():
        alike.setdefault(tuple(names), []).append(model)
    said = []
    for shared, where in alike.items():
        place = f" on {join_names(where)}"
        if len(where) == models:
            place = " on every model" if models > 1 else ""
        said.append(join_names(shared) + place)
    return said[0] if len(said) == 1 else ", and ".join([", ".join(said[:-1]), said[-1]])


def _below(top: Row, others: Sequence[Row], decided: PairwiseComparisons) -> list[Row]:
    """Those that the highest is clearly above."""
    below = decided.find_clearly_below(top.cell, [r.cell for r in others])
    return [r for r in others if r.cell in below]


def _scored(row: Row) -> str:
    found = row.interval
    if found is None:
        return row.title
    flattered = f"; {SELECTED_ON_TEST}" if row.cell.selected_on_test else ""
    return f"{row.title}, {format_interval(found)} ({format_basis(found)}{flattered})"


def _estimate(row: Row) -> float:
    return row.interval.estimate if row.interval else -1.0


def _mishaps(rows: Sequence[Row], models: int) -> Iterable[str]:
    # Names are written as they are, so no sentence begins with one.
    texts = any(row.cell.objective.generates for row in rows)
    forms = {
        "collapsed": f"One {'text' if texts else 'constant'} was answered by",
        "diverged": "Training diverged for",
        "out_of_memory": "Memory ran out for",
        "error": "An unexpected error stopped",
    }
    for outcome, form in forms.items():
        hit = [r for r in rows if r.cell.outcomes.get(outcome, 0)]
        if hit:
            count = sum(r.cell.outcomes[outcome] for r in hit)
            total = pluralise(sum(len(r.cell.final) for r in hit), "seed")
            yield f"{form} {_together(hit, models)}, with {count} of {total}."
    if hopeless := [r for r in rows if r.cell.all_trials_failed]:
        yield f"No rate that was tried could train {_together(hopeless, models)}."


def describe_protocol(study: Study) -> str:
    """How the scores came about."""
    asked = study.protocol
    if asked.preset == "paper":
        return (
            "Protocol of the paper: its own settings and one seed. The checkpoint was selected on "
            "the test part, so every score here is flattered."
        )
    seeds = pluralise(len(asked.seeds), "fresh seed")
    claim = "" if len(asked.seeds) >= 5 else " A claim needs at least five."
    if asked.trials == 1:
        return (
            "Fair protocol: every method ran at one learning rate, and no other was tried; scores "
            f"are of {seeds}, on a test part that no choice has seen.{claim}"
        )
    folds = (
        f"the mean of {asked.folds} folds of train (one part where train has 500 rows or more)"
        if asked.folds > 1
        else "one selection part of train"
    )
    return (
        f"Fair protocol: every method tried {pluralise(asked.trials, 'learning rate')} with a "
        f"tuning seed on {folds}; scores are of {seeds} at the chosen rate, on a test part that no "
        f"choice has seen.{claim}"
    )


def describe_unfinished(cell: Cell) -> str:
    """One line on a cell that is not finished."""
    name = f"{cell.task} / {cell.method}"
    if cell.model != NO_MODEL:
        name = f"{cell.task} / {cell.model} / {cell.method}"
    said = []
    for stage, title in (("tune", "rates on trial"), ("final", "final seeds")):
        ended = len(cell.tuning if stage == "tune" else cell.final)
        running, todo = (cell.pending.get((stage, s), 0) for s in ("running", "todo"))
        total = max(ended + running + todo, cell.expected_runs if stage == "final" else 0)
        if total and (running or todo or ended or stage == "final"):
            more = f", {running} running" if running else ""
            said.append(f"{title} {ended} of {total}{more}")
    return sanitise_line(f"{name}: {'; '.join(said)}")
