"""What a race says beside its answer: what it stands for, and what it did not train."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paretune.analysis.cell import Cell
from paretune.analysis.racing.rounds import DECIDED, ChoiceOutlook
from paretune.methods.core.titles import title_of
from paretune.reporting.text.formatting import format_share, join_names
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line

MOST_CERTAIN = 0.998
"""Of what agrees in all of 500 completions."""


def describe_stop(cell: Cell) -> str:
    """``stopped after 2 of 5 seeds: more could not change the choice``: why a race ended it."""
    if cell.stop == "limit":
        return "not trained: exceeds a limit of the study"
    if cell.stop == "screened":
        return "no final run: far behind on the selection part"
    return f"stopped after {len(cell.final)} of {name_runs(cell)}: more could not change the choice"


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
    answer = f"{every} of each method would give the same answer"
    if all(cell.complete for cell in methods):
        return
    if outlook.agreement >= DECIDED:
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


def name_runs(cell: Cell) -> str:
    """``5 seeds``; ``5 folds``: what the study asks for."""
    word = "fold" if cell.design.is_cross_validation else "seed"
    return pluralise(cell.expected_runs, word)
