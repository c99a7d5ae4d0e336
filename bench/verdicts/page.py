"""The page of what was measured: each number of two codes side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import exp
from typing import Any, NamedTuple

from verdicts.outcomes import BINS
from verdicts.scenarios import CHOICES, Scenario, list_scenarios

Results = Mapping[str, Mapping[str, Any]]
CHANCES = {
    "the best": "it is the best of all",
    "worse": "it is more than a point below the best",
    "below tfidf": "it is below the best baseline without a model",
}


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
        for what in ("examples", "seeds", "both", "cross-validated rows")
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
        "summary": _summarise(before, after),
        "errors of the split": _table(_of(split, "equal", False), SCORES, before, after),
        "errors of cross-validation": _table(_of(crossed, "equal", False), SCORES, before, after),
        "failures": _table(_of(scenarios, "equal", True), FAILURES, before, after),
        "power": _table(_of(scenarios, "steps"), POWER, before, after),
        "sample sizes": _table(_of(scenarios, "sample size"), SIZES, before, after),
        "choices": "\n\n".join(choices),
        "chances": _chances(after),
        "replays": _table(_of(scenarios, "replay"), REPLAY, before, after),
    }
    for name, text in parts.items():
        template = template.replace("{{" + name + "}}", text)
    return template


def _chances(results: Results) -> str:
    """A line for each bin of what is said, over all worlds and designs of ``chances``."""
    measured = [results[s.name] for s in _of(list_scenarios(), "chances") if s.name in results]

    def mean(name: str) -> tuple[float, int]:
        counts = [r["chances"].get(name, 0) for r in measured]
        sums = [r["means"].get(name, 0.0) * n for r, n in zip(measured, counts, strict=True)]
        return sum(sums) / max(1, sum(counts)), sum(counts)

    lines = ["| said | studies | said on average | it is so |", "|---|---|---|---|"]
    for name, title in CHANCES.items():
        for place in range(len(BINS) + 1):
            (chance, count), (true, _) = mean(f"said {name} {place}"), mean(f"true {name} {place}")
            if count:
                error = 100 * (max(true * (1 - true), 0.25 / count) / count) ** 0.5
                so = f"{_percent(true)} (SE {error:.1f})"
                lines.append(f"| {title} | {count} | {_percent(chance)} | {so} |")
    (loss, count), (true, _) = mean("loss said"), mean("loss true")
    if count:
        lines.append(f"| points lost | {count} | {_points(loss)} points | {_points(true)} points |")
    return "\n".join(lines)


def _summarise(before: Results, after: Results) -> str:
    """The extremes over scenarios, and the few numbers that decide."""
    equal = [s for s in list_scenarios() if s.kind == "equal" and not s.training]
    steady = [s for s in equal if not s.design.folds and s.seeds in ("calm", "norm", "unequal")]
    steady = [s for s in steady if s.design.rows >= 56 and s.metric == "accuracy"]

    def extremes(results: Results, scenarios: Iterable[Scenario], name: str) -> str:
        values = [results[s.name]["means"][name] for s in scenarios if s.name in results]
        return f"{100 * min(values):.1f} to {100 * max(values):.1f}" if values else "–"

    def one(results: Results, scenario: str, name: str, write: Callable[[float], str]) -> str:
        return write(results[scenario]["means"][name]) if scenario in results else "–"

    lines = [
        (
            "interval holds the score, 56 x 2 and more, no failures",
            extremes(before, steady, "coverage of expected"),
            extremes(after, steady, "coverage of trained"),
        )
    ]
    for title, scenarios in (
        ("no failures", [s for s in equal if s.seeds in ("calm", "norm", "t3", "unequal")]),
        ("seeds fail", [s for s in equal if "fail" in s.seeds or s.seeds == "mixed"]),
    ):
        for claim, name in (
            ("any false claim among the methods", "false claim"),
            ("any method falsely better than every baseline", "false above baselines"),
        ):
            lines.append(
                (
                    f"{claim}, {title}",
                    extremes(before, scenarios, f"{name}, expected"),
                    extremes(after, scenarios, f"{name}, trained"),
                )
            )
    lines += [
        (
            f"{claim}, true of runs that train, false of the next run",
            "as above",
            extremes(after, [s for s in equal if s.failures_in], name),
        )
        for claim, name in (
            ("a pair", "false claim, expected"),
            ("better than every baseline", "false above baselines, expected"),
        )
    ]
    for labelled, tested in ((300, 30), (500, 100)):
        for behaviour in ("calm", "norm"):
            split = f"steps accuracy {behaviour} n={tested} S=5"
            crossed = f"steps accuracy {behaviour} n={labelled} S=5 K=5"
            lines += [
                (
                    f"{points} points found ({how}), {labelled} labelled rows, {behaviour}",
                    one(before, split, f"{name} {points}", _percent),
                    one(after, crossed, f"{name} {points}", _percent),
                )
                for points in (5, 10)
                for how, name in (("one pair", "single power"), ("in the family", "pair power"))
            ]
    for world in CHOICES:
        scenario = f"choice {world} accuracy norm n=56 S=3"
        lines += [
            (
                f"points lost by {rule}, 56 x 3, {world}",
                one(before, scenario, f"regret, {rule}", _points),
                one(after, scenario, f"regret, {rule}", _points),
            )
            for rule in ("recommended", "highest")
        ]
    text = ["| | 0.1.0 | now |", "|---|---|---|"]
    return "\n".join(text + [f"| {what} | {old} | {new} |" for what, old, new in lines])


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
    """One line for each scenario that the present code was measured in: ``before / after``."""
    columns = tuple(columns)
    lines = ["| studies of | studies | " + " | ".join(c.title for c in columns) + " |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for scenario in scenarios:
        old, new = before.get(scenario.name), after.get(scenario.name)
        if new is None:
            continue
        cells = [f"{_number(old, c.before, c)} / {_number(new, c.after, c)}" for c in columns]
        counts = " / ".join("–" if r is None else str(r["studies"]) for r in (old, new))
        lines.append(f"| {_describe(scenario)} | {counts} | " + " | ".join(cells) + " |")
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
