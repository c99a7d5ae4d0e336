"""``compare``: two methods of a study beside each other, on every task and model. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.errors import StudyError
from paretune.study import Study
from paretune.verbs.report import gather

if TYPE_CHECKING:
    from paretune.analysis.cells import Cell
    from paretune.analysis.needed import Needed
    from paretune.analysis.pairs import Pair


@dataclass(frozen=True)
class Compared:
    """Two methods on one task and model; ``pair`` is None where one has no score (``why``).

    ``pair.p_holm`` decides, as in the report; ``pair.difference.p`` is uncorrected. ``needed`` is
    there where the pair is undecided. ``blind``: a side that could have several seeds has one, so
    what they move is not known.
    """

    task: str
    model: str
    metric: str
    pair: Pair | None
    needed: Needed | None
    lost: tuple[str, ...]
    blind: bool = False
    why: str = ""


def compare(
    study: Study | Path | str, a: str, b: str, *, store: Path | str | None = None
) -> tuple[Compared, ...]:
    """The score of ``a`` minus that of ``b`` for each task and model.

    Args:
        study: a study, its file, or the name of a shipped one.
        a: a method or baseline of the study, as the report calls it.
        b: another.
        store: folder of the results; ``studies/NAME`` by default.

    Raises:
        StudyError: no such study or method, or twice the same.
        StoreError: the store is missing or damaged, or never ran this study.
    """
    from paretune.analysis.cells import NO_MODEL, group

    found = gather(study, store)
    cells = group(found.study, found.records, found.states)
    known = list(dict.fromkeys(cell.method for cell in cells))
    for name in (a, b):
        if name not in known:
            raise StudyError(
                f'has no method "{name}".',
                where=f"study {found.study.study}",
                remedy=f"It has {', '.join(known)}.",
            )
    if a == b:
        raise StudyError(
            f'"{a}" cannot be compared with itself.',
            where=f"study {found.study.study}",
            remedy=f"Name two of {', '.join(known)}.",
        )
    return tuple(
        _compared([c for c in cells if c.task == task.key], model, a, b)
        for task in found.study.tasks
        for model in dict.fromkeys(c.model for c in cells if c.task == task.key)
        if model != NO_MODEL
    )


def _compared(cells: list[Cell], model: str, a: str, b: str) -> Compared:
    from paretune.analysis.cells import NO_MODEL
    from paretune.analysis.decisions import Decisions
    from paretune.analysis.difference import ALPHA
    from paretune.analysis.needed import needed
    from paretune.analysis.quality import lost_seeds, on_model
    from paretune.analysis.scores import TITLES
    from paretune.report.words import counted

    there = on_model(cells, model)
    here = {c.method: c for c in cells if c.model in (model, NO_MODEL)}
    metric = TITLES[cells[0].metric]
    absent = [name for name in (a, b) if name not in there]
    if absent:
        why = f"{' and '.join(absent)} {'has' if len(absent) == 1 else 'have'} no score to compare"
        return Compared(cells[0].task, model, metric, None, None, (), why=why)
    pair = Decisions([c for c in cells if c.model in (model, NO_MODEL)]).between(here[a], here[b])
    assert pair is not None  # noqa: S101 - both have scores of the same examples
    more = None
    if pair.standing == "unclear":
        once = (here[a].once, here[b].once)
        more = needed(there[a], there[b], once, ALPHA / pair.family)
    blind = any(len(there[name].seeds) == 1 and not here[name].once for name in (a, b))
    lost = tuple(
        f"{lost_seeds(here[name])} of {counted(len(here[name].final), 'seed')} of {name} diverged "
        "or did not fit, and counts as the lowest score there is."
        for name in (a, b)
        if lost_seeds(here[name])
    )
    return Compared(cells[0].task, model, metric, pair, more, lost, blind)
