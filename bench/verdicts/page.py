"""The page of what was measured: each number of two codes side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import exp
from typing import Any, NamedTuple

from verdicts.scenarios import CHOICES, Scenario, list_scenarios

Results = Mapping[str, Mapping[str, Any]]


class Column(NamedTuple):
    """A column: its title, the name of its number before and after, and how it is written."""

    title: str
    before: str
    after: str
    write: Callable[[float], str]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _points(value: float) -> str:
    return f"{value:.1f}"


def _megabytes(value: float) -> str:
    return f"{exp(value):.0f}"


def _same(title: str, name: str, write: Callable[[float], str] = _percent) -> Column:
    return Column(title, name, name, write)


SCORES = (
    Column("interval holds the score", "coverage of expected", "coverage of trained", _percent),
    _same("single pair", "single error"),
    Column("any pair", "false claim, expected", "false claim, trained", _percent),
    Column(
        "better than every baseline",
        "false above baselines, expected",
        "false above baselines, trained",
        _percent,
    ),
)
FAILURES = (
    _same("any pair, made false", "false claim, expected"),
    _same("better than every baseline, made false", "false above baselines, expected"),
)
POWER = tuple(
    _same(f"{points} points, one pair", f"single power {points}") for points in (3, 5, 10)
)
POWER += tuple(_same(f"{p} points, in the family", f"pair power {p}") for p in (5, 10))
POWER += tuple(_same(f"{p} points over baselines", f"baseline power {p}") for p in (5, 10))
CHOICE = tuple(
    column
    for rule in ("recommended", "highest", "cheapest within a point")
    for column in (
        _same(f"{rule}: points lost", f"regret, {rule}", _points),
        _same("MB", f"log memory, {rule}", _megabytes),
    )
)
SIZES = (
    _same("pilot decides", "pilot decides"),
    *(
        column
        for what in ("examples", "seeds", "both")
        for column in (
            _same(f"asks for {what}", f"asks for {what}"),
            _same("then decided", f"decided with {what}"),
        )
    ),
)
REPLAY = (
    Column("interval holds the score", "coverage of expected", "coverage of trained", _percent),
    _same("difference held", "coverage of differences"),
    _same("pairs decided", "pairs decided"),
    Column("any false claim", "false claim, expected", "false claim, trained", _percent),
    *CHOICE,
)


def write_page(template: str, before: Results, after: Results, commit: str) -> str:
    """The template with its tables. ``commit``: of the code that ``before`` was measured with."""
    scenarios = list_scenarios()
    split = [s for s in scenarios if not s.design.folds]
    crossed = [s for s in scenarios if s.design.folds]
    choices = [
        f"**{world}**\n\n" + _table(_of(scenarios, "choice", world=world), CHOICE, before, after)
        for world in CHOICES
    ]
    parts = {
        "commit": commit,
        "errors of the split": _table(_of(split, "equal", False), SCORES, before, after),
        "errors of cross-validation": _table(_of(crossed, "equal", False), SCORES, before, after),
        "failures": _table(_of(scenarios, "equal", True), FAILURES, before, after),
        "power": _table(_of(scenarios, "steps"), POWER, before, after),
        "sample sizes": _table(_of(scenarios, "sample size"), SIZES, before, after),
        "choices": "\n\n".join(choices),
        "replays": _table(_of(scenarios, "replay"), REPLAY, before, after),
    }
    for name, text in parts.items():
        template = template.replace("{{" + name + "}}", text)
    return template


def _of(
    scenarios: Iterable[Scenario],
    kind: str,
    failures_in: bool | None = None,
    world: str | None = None,
) -> list[Scenario]:
    return [
        s
        for s in scenarios
        if s.kind == kind and failures_in in (None, s.failures_in) and world in (None, s.world)
    ]


def _table(
    scenarios: Iterable[Scenario], columns: Iterable[Column], before: Results, after: Results
) -> str:
    """One line for each scenario that either code was measured in: ``before / after``."""
    columns = tuple(columns)
    lines = ["| studies of | " + " | ".join(c.title for c in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for scenario in scenarios:
        old, new = before.get(scenario.name), after.get(scenario.name)
        if old is None and new is None:
            continue
        cells = [f"{_number(old, c.before, c)} / {_number(new, c.after, c)}" for c in columns]
        lines.append(f"| {_describe(scenario)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(results: Mapping[str, Any] | None, name: str, column: Column) -> str:
    value = None if results is None else results["means"].get(name)
    return "–" if value is None else column.write(value)


def _describe(scenario: Scenario) -> str:
    design = scenario.design
    parts = [f"{design.rows} x {design.seeds}"]
    if design.folds:
        parts = [f"{design.rows} rows in {design.folds} folds, {design.seeds} seeds"]
    parts += [scenario.metric] if scenario.metric != "accuracy" else []
    parts += [scenario.seeds] if scenario.seeds else [scenario.world]
    parts += [f"clusters of {scenario.cluster}"] if scenario.cluster > 1 else []
    parts += [f"training sets {17 * scenario.training:.1f} points"] if scenario.training else []
    return ", ".join(parts)
