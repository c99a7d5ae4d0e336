"""``recommend``: what to take, within a budget. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from paretune.errors import StudyError
from paretune.study import Limits, Study
from paretune.study.quantities import parse_duration, parse_points, parse_size
from paretune.verbs.report import load_results

if TYPE_CHECKING:
    from paretune.analysis.pareto.recommendation import Budget
    from paretune.reporting.text.recommendation import Advice


class BudgetOptions(TypedDict, total=False):
    """What a configuration may cost, and which cost counts. By default the ``limits`` of the study.

    Attributes:
        max_memory: peak memory in training: ``"4GiB"``, or bytes.
        max_time: time to train one run alone: ``"10min"``, or seconds.
        max_bytes: size of what is saved: ``"20MB"``, or bytes.
        within: expected loss that is accepted for a lower cost: ``"1pt"`` (the default), or points.
        proven: only methods that are proven better than every baseline, and baselines.
        by: the cost: memory (the default), time, step, parameters, saved or inference.
    """

    max_memory: str | float | None
    max_time: str | float | None
    max_bytes: str | float | None
    within: str | float | None
    proven: bool
    by: str


def recommend(
    study: Study | Path | str,
    *,
    store: Path | str | None = None,
    task: str | None = None,
    called: str | None = None,
    **budget: Unpack[BudgetOptions],
) -> tuple[Advice, ...]:
    """For each task the cheapest configuration whose expected loss against the best is small.

    Args:
        study: a study, its file, or the name of a shipped one.
        store: folder of the results; ``studies/NAME`` by default.
        called: how the advised commands name the study; as it is passed by default.
        budget: ``max_memory``, ``max_time``, ``max_bytes``, ``within``, ``proven``, ``by``
            (:class:`BudgetOptions`).

    Raises:
        StudyError: no such study, task or cost, or an amount that cannot be read.
        StoreError: the store is missing or damaged, or never ran this study.
    """
    parse_budget(Limits(), **budget)  # said before the store is opened
    results = load_results(study, store)
    limits = parse_budget(results.study.limits, **budget)
    from paretune.analysis.cells import group_into_cells
    from paretune.analysis.pareto.recommend import recommend as recommend_cell
    from paretune.reporting.build import describe_race
    from paretune.reporting.text.recommendation import write_advice

    tasks = [one.key for one in results.study.tasks]
    if task is not None and task not in tasks:
        raise StudyError(
            f'has no task "{task}".',
            where=f"study {results.study.study}",
            remedy=f"It has {', '.join(tasks)}.",
        )
    cells = group_into_cells(results.study, results.records, results.states)
    if called is None:
        called = results.study.study if isinstance(study, Study) else str(study)
    folder = None if store is None else str(store)
    advice = []
    for key in tasks:
        if task in (None, key):
            own = [c for c in cells if c.task == key]
            recommendation = recommend_cell(own, limits)
            race = describe_race(results.study, own, recommendation)
            advice.append(write_advice(recommendation, called, folder, race))
    return tuple(advice)


def parse_budget(of_study: Limits, **options: Unpack[BudgetOptions]) -> Budget:
    """The limits of a study, with those of the options in their place.

    Raises:
        StudyError: no such cost, or an amount that cannot be read.
    """
    from paretune.analysis.pareto.costs import AXES, Axis
    from paretune.analysis.pareto.recommendation import WITHIN_POINTS, Budget

    by = options.get("by", "memory")
    axis = next((one for one in AXES if one == by), None)
    if axis is None:
        raise StudyError(
            f'there is no cost "{by}".', where="--by", remedy=f"There is {', '.join(AXES)}."
        )
    by_axis = of_study.by_axis
    limits: dict[Axis, float] = {one: by_axis[one] for one in AXES if one in by_axis}
    if (memory := options.get("max_memory")) is not None:
        limits["memory"] = parse_size(memory, "--max-memory")
    if (time := options.get("max_time")) is not None:
        limits["time"] = parse_duration(time, "--max-time")
    if (saved := options.get("max_bytes")) is not None:
        limits["saved"] = parse_size(saved, "--max-bytes")
    within = options.get("within")
    points = WITHIN_POINTS if within is None else parse_points(within, "--within")
    return Budget(limits, points, axis, options.get("proven", False))
