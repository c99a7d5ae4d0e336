"""``recommend`` and ``next``: what to take, and what to do next. They need no torch."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from paretune.analysis.pareto.costs import AXES
from paretune.analysis.pareto.recommend import WITHIN_POINTS, recommend as recommend_cell
from paretune.analysis.passes import limits_of
from paretune.errors import DataError, require_name, spell_option
from paretune.reporting.next_steps import write_next_steps
from paretune.reporting.text.conclusions import describe_passes
from paretune.reporting.text.recommendation import write_advice
from paretune.study.quantities import DURATION, POINTS, SIZE
from paretune.tasks import load_dataset
from paretune.verbs.options import Flag, MaxMemory, Name, Quiet, Size, StoreFolder, StudyLike, Time
from paretune.verbs.report import StudyResults, load_results
from paretune.verbs.result import ResultList

if TYPE_CHECKING:
    from rich.console import RenderableType

    from paretune.analysis.cell import Cell
    from paretune.reporting.parts import Advice, NextSteps  # noqa: F401 - of the base classes
    from paretune.study import Axis
    from paretune.terminal.rich_console import Terminal


class Advices(ResultList["Advice"]):
    """Recommendations for each task.

    Attributes:
        tasks: each with task, take (empty: nothing is recommended), lead, details, command ...
    """

    def describe(self) -> Iterable[RenderableType]:
        """Say which method to take on each task, why, and what would change that."""
        for number, advice in enumerate(self):
            yield from [""] if number else []
            for text in str(advice).splitlines():
                yield text if text == advice.command else Text(text)

    def show(self, out: Terminal, *, quiet: Quiet = False) -> None:
        """Print it, or one line a task."""
        if not quiet:
            super().show(out)
            return
        for advice in self:
            out.print(advice.lines[0], soft_wrap=True)


def recommend(
    study: StudyLike,
    *,
    store: StoreFolder = None,
    task: Name | None = None,
    max_memory: MaxMemory = None,
    max_time: Time | None = None,
    max_bytes: Size | None = None,
    within: Annotated[str | float | None, typer.Option(metavar="POINTS")] = None,
    proven: Flag = False,
    by: Name = "memory",
) -> Advices:
    """Say which method to take within a budget, and why.

    Takes the cheapest method or baseline whose expected score is within 1 point (--within) of the
    best, and says how likely it is the best, worse, or below the best free baseline. Limits that
    are not given are those of the study.

    Args:
        task: This task only.
        max_time: Longest training of a run alone: 10min.
        max_bytes: Largest size of the saved weights of a run: 20MB.
        within: Points below the best expected score that are accepted: 1pt.
        proven: Only methods that are proven better than every baseline.
        by: The cost to minimise: memory, time, step, parameters, saved or inference.

    Raises:
        StudyError: no such study, task or cost, or an amount that cannot be read.
        StoreError: the store is missing or damaged, or never ran this study.
    """
    # A mistake is told before the store is opened.
    require_name("cost", by, AXES, spell_option("by"))
    axis = next(axis for axis in AXES if axis == by)
    limits: dict[Axis, float] = {}
    if max_memory is not None:
        limits["memory"] = SIZE.parse(max_memory, spell_option("max_memory"))
    if max_time is not None:
        limits["time"] = DURATION.parse(max_time, spell_option("max_time"))
    if max_bytes is not None:
        limits["saved"] = SIZE.parse(max_bytes, spell_option("max_bytes"))
    points = WITHIN_POINTS if within is None else POINTS.parse(within, spell_option("within"))
    results = load_results(study, store)

    budget = limits_of(results.study.limits)
    limits = {**budget.limits, **limits}
    budget = replace(budget, limits=limits, within_points=points, cost_axis=axis, proven=proven)
    folder = None if store is None else str(store)
    advices = []
    for of_task in _group_by_task(results, task).values():
        recommendation = recommend_cell(of_task, budget)
        passes = describe_passes(results.study, of_task, recommendation)
        advices.append(write_advice(recommendation, results.study.typed, folder, passes))
    return Advices(tuple(advices))


def _group_by_task(results: StudyResults, task: str | None) -> dict[str, list[Cell]]:
    """The cells of each task, or of this one."""
    tasks = [spec.key for spec in results.study.tasks]
    if task is not None:
        require_name("task", task, tasks, f"study {results.study.study}")
    keys = tasks if task is None else [task]
    return {key: [cell for cell in results.cells if cell.task == key] for key in keys}


class AllNextSteps(ResultList["NextSteps"]):
    """Next steps for each task.

    Attributes:
        tasks: each with task, sentence, steps and labels.
    """

    def describe(self) -> Iterable[str]:
        """The steps of each task, with a blank line between them."""
        for number, steps in enumerate(self):
            yield from [""] if number else []
            yield str(steps)


def find_next_steps(
    study: StudyLike, *, store: StoreFolder = None, task: Name | None = None
) -> AllNextSteps:
    """Say what may raise the score most, from what has run.

    Names labels to check, more rows and other training. Nothing is trained. A study with
    protocol.rows: [0.25, 0.5] shows what more rows would bring.

    Args:
        task: This task only.

    Raises:
        StudyError: no such study or task.
        StoreError: the store is missing or damaged, or never ran this study.
    """
    results = load_results(study, store)
    specs = {spec.key: spec for spec in results.study.tasks}
    all_steps = []
    shares = results.study.protocol.rows
    for key, of_task in _group_by_task(results, task).items():
        choice = recommend_cell(of_task, limits_of(results.study.limits))
        dataset = None
        with suppress(DataError):  # data may be elsewhere: rows keep their identifiers
            dataset = load_dataset(specs[key])
        all_steps.append(write_next_steps(choice, dataset, shares=shares))
    return AllNextSteps(tuple(steps for steps in all_steps if steps is not None))
