"""Whether anything was learned, in words: it comes before whatever else is said of a task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paretune.analysis.cells import Cell
from paretune.analysis.learning_check import CollapsedCells, TrivialScore, rate_edge_of
from paretune.reporting.text.formatting import format_rate, join_names, pluralise


def warn_unlearned(found: CollapsedCells, titles: Sequence[str], of_all: bool) -> str:
    """``Nothing learned: 7 of 8 seeds are constant after 60 steps; train longer ...``.

    Args:
        found: what training left constant.
        titles: of its cells.
        of_all: whether these are all methods of the task.
    """
    one = "one text" if found.cells[0].objective.generates else "constant"
    who = "Nothing learned" if of_all else f"Nothing learned by {join_names(titles)}"
    after = ""
    if found.steps:
        fewest, most = found.steps
        after = (
            f" after {most:,} steps" if fewest == most else f" after {fewest:,} to {most:,} steps"
        )
    verb = "is" if found.constant == 1 else "are"
    return (
        f"{who}: {found.constant} of {pluralise(found.seeds, 'seed')} {verb} {one}{after}; "
        f"{suggest_remedy(found)}."
    )


def suggest_remedy(found: CollapsedCells) -> str:
    """What may help: steps, and the learning rate in the direction that was not tried."""
    tried = [trial.rate for c in found.cells for trial in c.choice.table]
    if found.edges == {"lowest"}:
        rate = format_rate(min(tried))
        return f"train longer or lower the learning rate ({rate} is the lowest tried)"
    if "highest" in found.edges:
        rate = format_rate(max(tried))
        return f"train longer or raise the learning rate ({rate} is the highest tried)"
    return "train longer or raise the learning rate"


def describe_edge_rates(cells: Iterable[tuple[str, Cell]]) -> Iterable[str]:
    """A sentence for each end at which rates were best, by the titles of cells."""
    found: dict[str, list[str]] = {}
    for title, cell in cells:
        if end := rate_edge_of(cell):
            found.setdefault(end, []).append(f"{title} ({format_rate(cell.rate)})")
    for place, names in found.items():
        better = "higher" if place == "highest" else "lower"
        yield f"The best rate was the {place} tried for {join_names(names)}: try {better} rates."


def describe_floor(floor: TrivialScore) -> str:
    """``the constant answer (majority, 0.36)``: what nothing scores above."""
    value = f"{floor.value:.2f}" if floor.answer != "copy_source" else f"{floor.value:.1f}"
    return {
        "majority": f"the constant answer (majority, {value})",
        "label": f"one label for every test example ({value})",
        "copy_source": f"the untranslated source (copy_source, {value})",
    }[floor.answer]
