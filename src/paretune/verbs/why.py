"""``why``: why one method is heavier than another, from their cost measurements. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.errors import StudyError
from paretune.study import Study

if TYPE_CHECKING:
    from paretune.analysis.resources.memory_breakdown import PartDifference
    from paretune.reporting.build import Report, Row


@dataclass(frozen=True)
class MemoryExplanation:
    """Two methods of one task and model: parts by their difference, and the same in words.

    ``gaps`` is empty where the parts of one are not known; ``sentences`` then say why.
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
    """Why a method is heavier than another, for each task and model of a study.

    Args:
        study: a study, its file, or the name of a shipped one.
        method: a method of the study, as the report calls it.
        other: the method beside it.
        store: folder of the results; ``studies/NAME`` by default.
        task: only this task.
        model: only this model.

    Raises:
        StudyError: no such study, method, task or model, or twice the same method.
        StoreError: the store is missing or damaged, or never ran this study.
    """
    from paretune.analysis.resources.memory_breakdown import break_down_memory, compare_breakdowns
    from paretune.reporting.build import build_report
    from paretune.reporting.tables.memory_breakdown import explain_memory_difference as said
    from paretune.verbs.report import load_results

    found = load_results(study, store)
    report = build_report(found.study, found.records, found.states)
    _check_names(report, method, other, task, model)
    answers = []
    for where, one, beside in _matching_rows(report, method, other, task, model):
        a, b = (break_down_memory(row.cell.cost) for row in (one, beside))
        between = compare_breakdowns(a, b) if a and b else ()
        answers.append(MemoryExplanation(where, one.model, between, said(one, beside)))
    return tuple(answers)


def _matching_rows(
    report: Report, method: str, other: str, task: str | None, model: str | None
) -> Iterable[tuple[str, Row, Row]]:
    for part in report.tasks:
        rows = {(row.cell.model, row.cell.method): row for row in part.all_rows}
        for of, name in rows:
            beside = rows.get((of, other))
            if name == method and beside and task in (None, part.key) and model in (None, of):
                yield part.key, rows[(of, name)], beside


def _check_names(
    report: Report, method: str, other: str, task: str | None, model: str | None
) -> None:
    from paretune.analysis.cells import NO_MODEL

    rows = [row for part in report.tasks for row in part.all_rows if row.cell.model != NO_MODEL]
    _require_known("method", [method, other], [row.cell.method for row in rows])
    _require_known("task", [task], [part.key for part in report.tasks])
    _require_known("model", [model], [row.cell.model for row in rows])
    if method == other:
        raise StudyError(
            "a method is not compared with itself.", where=method, remedy="Name two methods."
        )


def _require_known(what: str, asked: Sequence[str | None], known: Sequence[str]) -> None:
    for name in asked:
        if name is not None and name not in known:
            raise StudyError(
                f"the study has no such {what}.",
                where=name,
                remedy=f"It has {', '.join(dict.fromkeys(known))}.",
            )
