"""``why``: why one method takes more memory than another, from cost measurements. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.errors import StudyError
from paretune.study import Study

if TYPE_CHECKING:
    from paretune.analysis.cell import Cell
    from paretune.analysis.resources.memory_breakdown import PartDifference


@dataclass(frozen=True)
class MemoryExplanation:
    """Two methods of one task and model: components by their difference, and sentences about them.

    ``gaps`` is empty if the components of one are not known; ``sentences`` then say why.
    """

    task: str
    model: str
    gaps: tuple[PartDifference, ...]
    sentences: tuple[str, ...]


def why(
    study: Study | Path | str,
    method: str,
    other: str,
    *,
    store: Path | str | None = None,
    task: str | None = None,
    model: str | None = None,
) -> tuple[MemoryExplanation, ...]:
    """Why a method takes more memory than another, for each task and model of a study.

    ``METHOD@MODEL`` is the method on one model: so a quantised base is compared with the plain one
    (``lora@gemma-nf4`` and ``lora@gemma``).

    Args:
        study: a study, its file, or the name of a shipped one.
        method: a method of the study, as the report calls it, perhaps with a model.
        store: folder of the results; ``studies/NAME`` by default.

    Raises:
        StudyError: no such study, method, task or model, or twice the same method.
        StoreError: the store is missing or damaged, or never ran this study.
    """
    from paretune.analysis.cell import NO_MODEL
    from paretune.analysis.cells import group_into_cells
    from paretune.analysis.resources.memory_breakdown import break_down_memory, compare_breakdowns
    from paretune.reporting.text.memory_difference import explain_memory_difference
    from paretune.terminal.sanitise import sanitise_line
    from paretune.verbs.report import load_results

    results = load_results(study, store)
    cells = [
        cell
        for cell in group_into_cells(results.study, results.records, results.states)
        if cell.model != NO_MODEL
    ]
    first, second = (_Place.parse(name, cells) for name in (method, other))
    _require_known("method", [first.method, second.method], [cell.method for cell in cells])
    _require_known("task", [task], [cell.task for cell in cells])
    models = [first.model, second.model, model]
    _require_known("model", models, [cell.model for cell in cells])
    if first == second:
        raise StudyError(
            "a method is not compared with itself.", where=method, remedy="Name two methods."
        )
    explanations = []
    for one, compared in _find_pairs(cells, first, second):
        if task in (None, one.task) and model in (None, one.model):
            a, b = break_down_memory(one.cost), break_down_memory(compared.cost)
            explanations.append(
                MemoryExplanation(
                    task=sanitise_line(one.task),
                    model=sanitise_line(" and ".join(dict.fromkeys((one.model, compared.model)))),
                    gaps=compare_breakdowns(a, b) if a and b else (),
                    sentences=explain_memory_difference(one, compared),
                )
            )
    return tuple(explanations)


@dataclass(frozen=True)
class _Place:
    """A method, on one model or on all."""

    method: str
    model: str | None = None

    @classmethod
    def parse(cls, text: str, cells: Sequence[Cell]) -> _Place:
        """``METHOD`` or ``METHOD@MODEL``; a method may have an @ in its own name."""
        method, at, model = text.rpartition("@")
        if not at or text in {cell.method for cell in cells}:
            return cls(text)
        return cls(method, model)


def _find_pairs(
    cells: Sequence[Cell], first: _Place, second: _Place
) -> Iterable[tuple[Cell, Cell]]:
    """Cells of ``first``, each with that of ``second`` of the same task, and of its own model."""
    by_place = {(cell.task, cell.model, cell.method): cell for cell in cells}
    for (task, model, name), cell in by_place.items():
        compared = by_place.get((task, second.model or model, second.method))
        if name == first.method and first.model in (None, model) and compared not in (None, cell):
            assert compared is not None  # noqa: S101  (just seen)
            yield cell, compared


def _require_known(what: str, names: Sequence[str | None], known: Sequence[str]) -> None:
    for name in names:
        if name is not None and name not in known:
            raise StudyError(
                f"the study has no such {what}.",
                where=name,
                remedy=f"It has {', '.join(dict.fromkeys(known))}.",
            )
