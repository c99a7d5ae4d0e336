"""How often the package's verdicts hold: simulated studies, and the page of them.

    python bench/calibration.py measure --processes 2    the record: hours
    python bench/calibration.py measure --studies 300 --worlds "18 methods" --json check.json
    python bench/calibration.py page [--json FILE]       prints the page of the site

``measure`` asks the code that is on PYTHONPATH. It goes on where it stopped: scenarios of which
FILE holds as many studies are not simulated again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from math import exp
from pathlib import Path
from typing import Any

import row_factor
from verdicts.outcomes import BINS, FACTORS, simulate
from verdicts.scenarios import CHOICES, Scenario, list_scenarios

RESULTS = Path(__file__).parent / "calibration"
RECORD = Path(__file__).parent / "results" / "verdicts.json"
Results = Mapping[str, Mapping[str, Any]]


def measure(
    file: Path, scenarios: Iterable[Scenario], studies: int | None = None, processes: int = 1
) -> None:
    """Simulate what ``file`` does not hold yet, print it, and save after each scenario.

    Args:
        studies: of each scenario; None: as many as it has in full.
    """
    results = json.loads(file.read_text()) if file.exists() else {}
    for scenario in scenarios:
        count, began = studies or scenario.studies, time.monotonic()
        if results.get(scenario.name, {"studies": 0})["studies"] >= count:
            continue
        result = results[scenario.name] = simulate(scenario, count, processes)
        file.write_text(json.dumps(results, sort_keys=True).replace('}, "', '},\n"') + "\n")
        print(f"{scenario.name}: {count} studies, {time.monotonic() - began:.0f} s")
        for title, name in SUMMARY.items():
            if name in result["means"]:
                mean, error = _percent(result["means"][name]), _percent(result["errors"][name])
                print(f"    {title:40} {mean:>5} ± {error}", flush=True)


SUMMARY = {
    "interval holds the score": "coverage",
    "runs of a method, in hundredths": "runs of a method",
    "any false pair": "false claim",
    "any false against the best baseline": "false against the best baseline",
    "any of both": "any false claim",
    "an equal pair alone": "single error",
    "of steady methods": "steady single error",
    "with an unsteady method": "unsteady single error",
    "5 points, one pair alone": "single power 5",
    "of steady methods, 5 points": "steady single power 5",
    "with an unsteady method, 5 points": "unsteady single power 5",
    "5 points, in the family": "family power 5",
    "10 points, one pair alone": "single power 10",
    "10 points, in the family": "family power 10",
    "5 points over the default": "default power 5",
    "10 points over the default": "default power 10",
}
"""What is printed of a scenario in per cent, with standard errors."""


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _points(value: float) -> str:
    return f"{value:.1f}"


Column = tuple[str, str, Callable[[float], str]]
"""Title, name of the number, and how it is written."""

ERRORS: tuple[Column, ...] = (
    ("interval holds the score", "coverage", _percent),
    ("one pair", "single error", _percent),
    ("any pair", "false claim", _percent),
    ("better than every baseline", "false above baselines", _percent),
    ("any pair, or any with the best baseline", "any false claim", _percent),
    ("all ranks hold", "ranks held", _percent),
)
POWER: tuple[Column, ...] = (
    *((f"{points} points, one pair", f"single power {points}", _percent) for points in (5, 10)),
    *(
        (f"{points} points, in the family", f"family power {points}", _percent)
        for points in (5, 10)
    ),
    *(
        (f"{points} points over baselines", f"baseline power {points}", _percent)
        for points in (5, 10)
    ),
    ("any false pair", "false claim", _percent),
)
DEFAULT: tuple[Column, ...] = (
    ("5 points over the default", "default power 5", _percent),
    ("10 points over the default", "default power 10", _percent),
    ("any false pair", "false claim", _percent),
)
SPLIT_RULES = ("", "rows alone: ", "quasi-F, own runs: ", "quasi-F, pooled runs: ")
FOLD_RULES = (
    "",
    *(f"c = {factor}: " for factor in FACTORS),
    *("t over rows: ", "t over folds: ", "Nadeau-Bengio: "),
)
CHOICE: tuple[Column, ...] = (
    *(
        column
        for rule in ("recommended", "highest", "cheapest within a point")
        for column in (
            (f"{rule}: points lost", f"regret, {rule}", _points),
            ("MB", f"log memory, {rule}", lambda value: f"{exp(value):.0f}"),
        )
    ),
    ("expected score, said", "expected said", _points),
    ("true", "expected true", _points),
)
CHANCES = {
    "best": "it is the best of all",
    "worse": "it is more than a point below the best",
    "below TF-IDF": "it is below TF-IDF",
}
SIZES: tuple[Column, ...] = (
    ("pilot decides", "pilot decides", _percent),
    *(
        column
        for what in ("the least", "the most")
        for column in (
            (f"asks for {what}", f"asks for {what}", _percent),
            ("then decided", f"decided with {what}", _percent),
        )
    ),
)


def make_page(file: Path = RECORD) -> str:
    """The page, from the results that are kept."""
    results: Results = json.loads(file.read_text(encoding="utf-8"))
    measured = [s for s in list_scenarios() if s.name in results]
    split, crossed = ([s for s in measured if bool(s.design.folds) == k] for k in (False, True))
    parts = {
        "errors of the split": _table(results, _of(split, "equal"), ERRORS),
        "errors of cross-validation": _table(results, _of(crossed, "equal"), ERRORS),
        "power": _table(results, _of(measured, "steps"), POWER),
        "default": _table(results, _of(measured, "default"), DEFAULT),
        "rules of the split": _rules(results, split, SPLIT_RULES),
        "rules of cross-validation": _rules(results, crossed, FOLD_RULES),
        "row factor": row_factor.describe(row_factor.load(row_factor.RECORD)),
        "choices": _table(results, _of(measured, "choice"), CHOICE),
        "chances": _chances(results, measured),
        "sample sizes": _table(results, _of(measured, "sample size"), SIZES),
    }
    page = (RESULTS / "page.md").read_text(encoding="utf-8")
    for name, text in parts.items():
        page = page.replace("{{" + name + "}}", text)
    return page


def _of(scenarios: Iterable[Scenario], kind: str) -> list[Scenario]:
    return [scenario for scenario in scenarios if scenario.kind == kind]


def _table(results: Results, scenarios: Iterable[Scenario], columns: Iterable[Column]) -> str:
    columns = tuple(columns)
    lines = ["| studies of | studies | " + " | ".join(title for title, _, _ in columns) + " |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for scenario in scenarios:
        result = results[scenario.name]
        means = result["means"]
        cells = [write(means[name]) if name in means else "–" for _, name, write in columns]
        lines.append(f"| {scenario.title} | {result['studies']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _rules(results: Results, scenarios: Iterable[Scenario], rules: Iterable[str]) -> str:
    """Any false claim of each rule; where methods differ, 5 points found alone and in the family.

    The rule without a name is the package's.
    """
    rules = tuple(rules)
    titles = [rule.rstrip(": ") or "the package's" for rule in rules]
    lines = [f"| studies of | | {' | '.join(titles)} |", "|---" * (len(rules) + 2) + "|"]
    for scenario in scenarios:
        means = results[scenario.name]["means"]
        if f"{rules[-1]}false claim" not in means:
            continue
        names: tuple[str, ...] = ("false claim",)
        title = "false claims"
        if scenario.kind == "steps":
            names, title = ("single power 5", "family power 5"), "5 points found, alone / family"
        cells = (" / ".join(_percent(means[f"{rule}{name}"]) for name in names) for rule in rules)
        lines.append(f"| {scenario.title} | {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _chances(results: Results, scenarios: Iterable[Scenario]) -> str:
    """World by world, a line for each bin of what is said, over all designs."""
    lines = ["| world | said | studies | said on average | it is so |", "|---" * 5 + "|"]
    for world in CHOICES:
        measured = [results[s.name] for s in _of(scenarios, "choice") if s.runs == world]
        for event, title in CHANCES.items():
            for place in range(len(BINS) + 1):
                names = f"said {event} {place}", f"true {event} {place}"
                count = sum(result["chances"].get(names[0], 0) for result in measured)
                if not count:
                    continue
                chance, share = (
                    sum(r["means"].get(name, 0.0) * r["chances"].get(name, 0) for r in measured)
                    / count
                    for name in names
                )
                error = 100 * (max(share * (1 - share), 0.25 / count) / count) ** 0.5
                so = f"{_percent(share)} (SE {error:.1f})"
                lines.append(f"| {world} | {title} | {count} | {_percent(chance)} | {so} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """The command above."""
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    measuring, page = verbs.add_parser("measure"), verbs.add_parser("page")
    for verb in (measuring, page):
        verb.add_argument("--json", type=Path, default=RECORD)
    measuring.add_argument("--studies", type=int, help="of each scenario; by default all")
    measuring.add_argument(
        "--worlds", nargs="+", default=[""], help="scenarios whose name contains one of these"
    )
    measuring.add_argument(
        "--base-rates", nargs="+", type=float, default=[], help="of every scenario, in place of its"
    )
    measuring.add_argument("--processes", type=int, default=1)
    options = parser.parse_args(arguments)
    if options.verb == "page":
        print(make_page(options.json))
        return
    scenarios = [s for s in list_scenarios() if any(text in s.name for text in options.worlds)]
    if not scenarios:
        parser.error("no such world; there are\n" + "\n".join(s.name for s in list_scenarios()))
    if options.base_rates:
        scenarios = [replace(s, base=base) for s in scenarios for base in options.base_rates]
    measure(options.json, scenarios, options.studies, options.processes)


if __name__ == "__main__":
    main()
