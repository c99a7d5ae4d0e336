"""``recommend``: what to take, within a budget. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from paretune.errors import StudyError
from paretune.study import Study
from paretune.study.quantities import parse_duration, parse_points, parse_size
from paretune.verbs.report import load_results

if TYPE_CHECKING:
    from paretune.analysis.pareto.recommend import Budget
    from paretune.reporting.text.recommendation import Advice


def recommend(
    study: Study | Path | str,
    *,
    store: Path | str | None = None,
    max_memory: str | float | None = None,
    max_time: str | float | None = None,
    max_bytes: str | float | None = None,
    within: str | float | None = None,
    by: str = "memory",
    task: str | None = None,
    called: str | None = None,
) -> tuple[Advice, ...]:
    """For each task the cheapest configuration that the best is not clearly above.

    Args:
        study: a study, its file, or the name of a shipped one.
        store: folder of the results; ``studies/NAME`` by default.
        max_memory: peak memory in training: ``"4GiB"``, or bytes.
        max_time: time to train one run alone: ``"10min"``, or seconds.
        max_bytes: what is saved: ``"20MB"``, or bytes.
        within: how much of the score may be given up for cheapness: ``"1pt"``, or points.
        by: what is cheap: memory, time, step, parameters, saved or inference.
        task: this one only.
        called: how commands that are advised name the study; as it is given by default.

    Raises:
        StudyError: no such study, task or cost, or an amount that cannot be read.
        StoreError: the store is missing or damaged, or never ran this study.
    """
    budget = _budget(max_memory, max_time, max_bytes, within, by)
    found = load_results(study, store)
    from paretune.analysis.cells import group_into_cells
    from paretune.analysis.pareto.recommend import recommend as weigh
    from paretune.reporting.text.recommendation import write_advice

    known = [one.key for one in found.study.tasks]
    if task is not None and task not in known:
        raise StudyError(
            f'has no task "{task}".',
            where=f"study {found.study.study}",
            remedy=f"It has {', '.join(known)}.",
        )
    cells = group_into_cells(found.study, found.records, found.states)
    if called is None:
        called = found.study.study if isinstance(study, Study) else str(study)
    folder = None if store is None else str(store)
    return tuple(
        write_advice(weigh([c for c in cells if c.task == key], budget), called, folder)
        for key in known
        if task in (None, key)
    )


def _budget(
    max_memory: str | float | None,
    max_time: str | float | None,
    max_bytes: str | float | None,
    within: str | float | None,
    by: str,
) -> Budget:
    from paretune.analysis.pareto.costs import AXES, Axis
    from paretune.analysis.pareto.recommend import Budget

    axis = next((one for one in AXES if one == by), None)
    if axis is None:
        raise StudyError(
            f'there is no cost "{by}".', where="--by", remedy=f"There is {', '.join(AXES)}."
        )
    limits: dict[Axis, float] = {}
    if max_memory is not None:
        limits["memory"] = parse_size(max_memory, "--max-memory")
    if max_time is not None:
        limits["time"] = parse_duration(max_time, "--max-time")
    if max_bytes is not None:
        limits["saved"] = parse_size(max_bytes, "--max-bytes")
    most = None if within is None else parse_points(within, "--within")
    return Budget(limits, most, axis)
