"""What a race says beside its answer: what it stands for, and what it did not train."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paretune.analysis.cell import Cell
from paretune.analysis.racing.rounds import DECIDED, ChoiceOutlook
from paretune.reporting.text.formatting import format_share, join_names, pluralise
from paretune.terminal.sanitise import sanitise_line

MOST_CERTAIN = 0.998
"""Of what agrees in all of 500 completions."""


def describe_stop(cell: Cell) -> str:
    """``2 of 5 seeds, no claim: could not change the choice``: why a race trained no more of it."""
    if cell.stop == "limit":
        return "not trained: exceeds a limit of the study"
    if cell.stop == "screened":
        return "no final run: far behind on the selection part"
    return f"{len(cell.final)} of {name_runs(cell)}, no claim: could not change the choice"


def write_race(outlook: ChoiceOutlook, cells: Sequence[Cell]) -> Iterable[str]:
    """What the recommendation of a race stands for.

    Args:
        outlook: of the recommendation in question.
        cells: of its task.
    """
    methods = [cell for cell in cells if not cell.baseline]
    if not methods:
        return
    every = name_runs(methods[0])
    same = format_share(min(outlook.agreement, MOST_CERTAIN))
    if all(cell.complete for cell in methods):
        return
    if outlook.agreement >= DECIDED:
        yield f"A race: {every} each would say the same with {same}."
    elif all(cell.complete or cell.stop is not None for cell in methods):
        yield (
            f"A race to another question: {every} each would say the same with only {same}; "
            "protocol.race=off trains the rest."
        )
    else:
        yield f"The race is not over: {every} each would say the same with {same}."
    stopped = [cell for cell in methods if cell.stop == "no change" and not cell.complete]
    if stopped:
        named = [f"{sanitise_line(c.method)} {len(c.final)}" for c in stopped]
        yield f"Stopped, since more could not change the choice: {join_names(named)}."


def name_runs(cell: Cell) -> str:
    """``5 seeds``; ``5 folds``: what the study asks for."""
    word = "fold" if cell.design.is_cross_validation else "seed"
    return pluralise(cell.expected_runs, word)
