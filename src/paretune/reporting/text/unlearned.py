"""Sentences on training that taught nothing: they come first on a task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paretune.analysis.cell import Cell
from paretune.analysis.learning_check import CollapsedCells, RateEdge, TrivialScore, rate_edge_of
from paretune.reporting.text.formatting import format_rate, join_names
from paretune.terminal.plural import pluralise


def warn_unlearned(collapsed: CollapsedCells, titles: Sequence[str], of_all: bool) -> str:
    """``Nothing learned: 7 of 8 seeds give every example the same answer after 60 steps; ...``.

    Args:
        collapsed: cells whose seeds mostly predict a constant.
        of_all: whether these are all methods of the task.
    """
    subject = "Nothing learned" if of_all else f"Nothing learned by {join_names(titles)}"
    steps = ""
    if collapsed.steps:
        fewest, most = collapsed.steps
        span = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
        steps = f" after {span} steps"
    verb = "gives" if collapsed.constant == 1 else "give"
    return (
        f"{subject}: {collapsed.constant} of {pluralise(collapsed.seeds, 'seed')} {verb} every "
        f"example the same answer{steps}; {suggest_remedy(collapsed)}."
    )


def suggest_remedy(collapsed: CollapsedCells) -> str:
    """What may help: more steps, and learning rates beyond the end that was best."""
    rates = [trial.rate for cell in collapsed.cells for trial in cell.choice.table]
    if collapsed.edges == {"lowest"}:
        rate = format_rate(min(rates))
        return f"train longer or lower the learning rate ({rate} is the lowest tried)"
    if "highest" in collapsed.edges:
        rate = format_rate(max(rates))
        return f"train longer or raise the learning rate ({rate} is the highest tried)"
    return "train longer or raise the learning rate"


def describe_edge_rates(cells: Iterable[tuple[str, Cell]]) -> Iterable[str]:
    """One sentence for each end of the tried rates at which some were best."""
    by_edge: dict[RateEdge, list[str]] = {}
    for title, cell in cells:
        if edge := rate_edge_of(cell):
            by_edge.setdefault(edge, []).append(f"{title} ({format_rate(cell.rate)})")
    for edge, names in by_edge.items():
        better = "higher" if edge == "highest" else "lower"
        yield f"The best rate was the {edge} tried for {join_names(names)}: try {better} rates."


def describe_trivial_score(trivial: TrivialScore) -> str:
    """``the constant answer (majority, 0.36)``: what nothing scores above."""
    value = f"{trivial.value:.{1 if trivial.highest > 1 else 2}f}"
    return {
        "majority": f"the constant answer ({value})",
        "label": f"one label for every test example ({value})",
        "copy_source": f"the copied source ({value})",
        "frequent_text": f"the most frequent text ({value})",
    }[trivial.answer]
