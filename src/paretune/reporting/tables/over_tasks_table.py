"""Methods compared over all tasks, in words: for the screen, the page and the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from paretune.analysis.over_tasks import OverTasks, TaskEffect
from paretune.methods.core.titles import title_of
from paretune.reporting.text.formatting import format_p_value
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line

OVER_TASKS_NOTE = (
    "First minus second in points (hundredths of the metric's highest value) with 95 % intervals; "
    "each task weighs as many rows as its test part has. Better or worse: proven at 95 % on these "
    "tasks, corrected over all lines of this table (Holm). Where effects differ "
    "between tasks (Welch's test, p under 0.10) the interval for any such tasks stands beside it, "
    "from three tasks on."
)
_WHOLE_SCALE = 100.0
"""In points. An interval for other tasks that is wider than the metric's scale says nothing."""
_FEWEST_TASKS = 3
"""From which what other tasks would show is told: the spread of two has one degree of freedom."""


@dataclass(frozen=True)
class OverTasksLine:
    """One method beside a reference, as texts.

    Attributes:
        pair: ``LoRA against full fine-tuning``; with the model where there are several.
        difference: ``+1.2 points [-0.5, +2.9]``.
        verdict: ``better``, ``worse``, or ``undecided`` and why.
        tasks: each task with its difference.
        further: that effects differ between tasks and what follows, and what failed; may be empty.
        values: behind the texts.
    """

    pair: str
    difference: str
    verdict: str
    tasks: str
    further: str
    values: OverTasks

    @property
    def sentence(self) -> str:
        """``LoRA against BitFit on 4 tasks: +1.2 points [-0.5, +2.9], undecided``."""
        tasks = pluralise(len(self.values.effects), "task")
        return f"{self.pair} on {tasks}: {self.difference}, {self.verdict}"


def write_over_tasks(comparisons: Sequence[OverTasks]) -> tuple[OverTasksLine, ...]:
    """Each row as texts."""
    several = len({one.model for one in comparisons}) > 1
    return tuple(_write_line(one, several) for one in comparisons)


def list_main_lines(lines: Iterable[OverTasksLine]) -> list[OverTasksLine]:
    """Those beside the first reference of each model: the method that trains the most."""
    first: dict[str, str] = {}
    return [
        line
        for line in lines
        if first.setdefault(line.values.model, line.values.reference) == line.values.reference
    ]


@dataclass(frozen=True)
class OverTasksTable:
    """The lines that are shown, and the further ones beside other references."""

    main: tuple[OverTasksLine, ...]
    further: tuple[OverTasksLine, ...]

    @classmethod
    def of(cls, lines: Sequence[OverTasksLine]) -> OverTasksTable:
        """Split by :func:`list_main_lines`."""
        main = list_main_lines(lines)
        return cls(tuple(main), tuple(line for line in lines if line not in main))


def _write_line(row: OverTasks, several: bool) -> OverTasksLine:
    on_model = f" on {row.model}" if several else ""
    verdict = {"above": "better", "below": "worse", "unclear": "undecided"}[row.standing]
    if row.withheld:
        verdict = f"{verdict}: {row.withheld}"
    method, reference = title_of(row.method), title_of(row.reference)
    return OverTasksLine(
        pair=sanitise_line(f"{method} against {reference}{on_model}"),
        difference=f"{row.points:+z.1f} points [{row.low:+z.1f}, {row.high:+z.1f}]",
        verdict=verdict,
        tasks=", ".join(map(_name_effect, row.effects)),
        further="; ".join(_write_further(row)),
        values=row,
    )


def _name_effect(effect: TaskEffect) -> str:
    return sanitise_line(f"{effect.task} {effect.points:+z.1f} ({effect.rows:,} rows)")


def _write_further(row: OverTasks) -> Iterable[str]:
    if row.differs_between_tasks:
        ordered = sorted(row.effects, key=lambda effect: effect.points)
        lowest, highest = ordered[0], ordered[-1]
        low, high = row.any_task
        others = f", on any such tasks [{low:+z.1f}, {high:+z.1f}]"
        if len(ordered) < _FEWEST_TASKS or high - low > _WHOLE_SCALE:
            others = f"; {len(ordered)} tasks are too few to say anything of others"
        yield sanitise_line(
            f"effects differ between tasks (p {format_p_value(row.p_heterogeneity)}): "
            f"{lowest.points:+z.1f} on {lowest.task} to {highest.points:+z.1f} on {highest.task}"
            f"{others}"
        )
    for name, (failed, runs) in zip((row.method, row.reference), row.failed, strict=True):
        if failed:
            yield sanitise_line(f"{failed} of {pluralise(runs, 'run')} of {title_of(name)} failed")
