"""What a race saves and whether it answers as the full study: replays, with no training.

    python bench/race.py measure [--share 0.2] [--only NAME]     writes bench/calibration/race.json
    python bench/race.py grid STORE [KEY=VALUE ...]              replays a stored full study, trials
                                                                 included [--study bench/grid.yaml]
                                                                 [--draws 20]
    python bench/race.py grid                                    the same of the one that is in
                                                                 bench/calibration
    python bench/race.py pack STORE FILE [--task NAME]           writes such a file
    python bench/race.py page                                    prints what a race saves

A full study is drawn (bench/verdicts) or read, and the race is given its runs one round after
another. Compared are: what is recommended, the training seconds (drawn studies: each method as long
as MEMORY says, in proportion), and the claims: of the race, of the full study by the race's rules
(of which the race's must be some), and of the full study by its own rules.
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from stored_grid import (
    PACKED,
    PACKED_TASKS,
    Grid,
    MissingRunsError,
    list_claims,
    open_packed,
    pack_records,
    race_grid,
    select_tasks,
    set_race,
    summarise_grid,
)
from verdicts.outcomes import Tally
from verdicts.scenarios import CHOICES, Scenario, list_scenarios
from verdicts.studies import MEGABYTES, build_study
from verdicts.worlds import Design, Truth, draw_study

from paretune.analysis.cell import Cell
from paretune.analysis.cells import build_cells
from paretune.analysis.pareto.recommend import choose
from paretune.analysis.racing import (
    allowed_positions,
    decide_rounds,
    race_budget,
)
from paretune.store.record import Record
from paretune.study import Study

RESULTS = Path(__file__).parent / "calibration" / "race.json"
STUDIES = 200
_SAME = 1e-9


def list_raced() -> list[Scenario]:
    """Scenarios in which there is something to choose or to claim."""
    drawn = [
        scenario
        for scenario in list_scenarios()
        if scenario.metric == "accuracy" and scenario.cluster == 1 and not scenario.training[0]
        if scenario.kind not in ("default", "sample size") and 5 <= scenario.design.seeds <= 10
    ]
    choices = [
        Scenario("choice", world, Design(rows, 5)) for world in CHOICES for rows in (56, 300, 1000)
    ]
    return list({scenario.name: scenario for scenario in (*drawn, *choices)}.values())


def race_scenario(scenario: Scenario, studies: int, seconds: float) -> dict[str, Any]:
    """Shares and means over the studies of one scenario.

    Args:
        seconds: of the processor, after which no further study is drawn.
    """
    began, count = time.process_time(), 0
    rng = np.random.default_rng([29, zlib.crc32(scenario.name.encode())])
    tally = Tally()
    world = None
    for _ in range(studies):
        if world is None or scenario.kind == "choice":
            world = scenario.make_world(rng)
        drawn = draw_study(world, scenario.design, rng)
        race_study(tally, *build_study(drawn, scenario.metric), world.truths)
        count += 1
        if time.process_time() - began > seconds:
            break
    return {"studies": count, "means": tally.means(), "chances": tally.chances()}


def race_study(
    tally: Tally,
    study: Study,
    records: Sequence[Record],
    truths: dict[str, Truth] | None = None,
) -> None:
    """Race one full study, and tally what differs."""
    plain = set_race(study, "off")
    raced = set_race(study, "recommendation")
    for task in study.tasks:
        own = [record for record in records if record.run.task.key == task.key]
        full = [cell for cell in build_cells(plain, own) if cell.task == task.key]
        whole = [cell for cell in build_cells(raced, own) if cell.task == task.key]
        state = decide_rounds(whole, raced)
        ended = _stop(whole, raced, state)
        # What costs leave out, they leave out of the full study's claims too.
        limited = {key for key, reason in state.stopped.items() if reason == "limit"}
        whole = [replace(c, stop="limit") if c.key in limited else c for c in whole]
        _tally_choice(tally, full, ended, study, truths)
        for name, cells in (("full", full), ("race", ended)):
            trained = [cell for cell in cells if not cell.baseline]
            tally.count(f"seconds of {name}", sum(map(_seconds, trained)))
            tally.count(f"runs of {name}", sum(len(cell.final) for cell in trained))
        _tally_claims(tally, (full, whole, ended), truths)
        if state.forecast is not None and state.over:
            tally.count("predicted agreement", state.forecast.agreement)


def _stop(cells: Sequence[Cell], study: Study, state: Any) -> list[Cell]:
    """The cells with the runs that the race gave them."""
    stopped = []
    for cell in cells:
        key = (cell.model, cell.method)
        if not cell.baseline:
            own = allowed_positions(cell, study.protocol, state.positions[key])
            cell = replace(own, stop=state.stopped.get(key))
        stopped.append(cell)
    return stopped


def _tally_choice(
    tally: Tally,
    full: Sequence[Cell],
    ended: Sequence[Cell],
    study: Study,
    truths: dict[str, Truth] | None,
) -> None:
    budget = race_budget(study.limits)
    choices = []
    for name, cells in (("full", full), ("race", ended)):
        chosen = choose(cells, budget).chosen
        choices.append(chosen and chosen.cell.method)
        if truths:
            best = max(truth.expected for truth in truths.values())
            method = chosen.cell.method if chosen else "tfidf"
            tally.count(f"{name}: points lost", 100 * (best - truths[method].expected))
    tally.count("same choice", choices[0] == choices[1])


def _seconds(cell: Cell) -> float:
    """Of the final runs: measured, else in proportion to the memory of the method."""
    known = [seconds for record in cell.final if (seconds := record.train_seconds) is not None]
    if known:
        return sum(known)
    return MEGABYTES.get(cell.name, 1000.0) / 1000 * len(cell.final)


def _tally_claims(
    tally: Tally,
    by_side: tuple[Sequence[Cell], Sequence[Cell], Sequence[Cell]],
    truths: dict[str, Truth] | None,
) -> None:
    names = ("full by its rules", "full by the race's rules", "race")
    claims = [list_claims(cells) for cells in by_side]
    for name, claimed in zip(names, claims, strict=True):
        tally.count(f"claims, {name}", len(claimed))
        if truths:
            false = any(_is_false(claim, truths) for claim in claimed)
            tally.count(f"any false claim, {name}", false)
    tally.count("claims are a subset", claims[2] <= claims[1])
    tally.count("claims are a subset of the full study's own", claims[2] <= claims[0])


def _is_false(claim: tuple[str, str], truths: dict[str, Truth]) -> bool:
    better, worse = claim
    if worse != "baselines":
        return truths[better].trained <= truths[worse].trained + _SAME
    rivals = [truths[name].trained for name in ("head_only", "tfidf") if name in truths]
    return truths[better].trained <= max(rivals, default=0.0) + _SAME


def measure(options: argparse.Namespace) -> None:
    """Race what the file does not hold yet, and save after each scenario."""
    file = options.json
    known = json.loads(file.read_text()) if file.exists() else {}
    studies = max(1, round(options.share * STUDIES))
    scenarios = list_raced()
    exact = [scenario for scenario in scenarios if scenario.name == options.only]
    for scenario in exact or scenarios:
        if scenario.name in known or options.only not in scenario.name:
            continue
        began = time.process_time()
        known[scenario.name] = race_scenario(scenario, studies, options.seconds)
        file.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        print(f"{scenario.name}: {time.process_time() - began:.0f} s", flush=True)


def describe(name: str, means: dict[str, float]) -> str:
    """One line of the table."""
    sides = ("full by its rules", "full by the race's rules", "race")
    false = " | ".join(
        f"{100 * means.get(f'any false claim, {s}', float('nan')):.1f}" for s in sides
    )
    claims = " | ".join(f"{means[f'claims, {s}']:.2f}" for s in sides)
    share = means["claims are a subset of the full study's own"]
    return (
        f"| {name} | {100 * means['same choice']:.1f} | "
        f"{means['seconds of full'] / means['seconds of race']:.2f} | {false} | {claims} | "
        f"{100 * means['claims are a subset']:.0f} | {100 * share:.1f} |"
    )


def print_page(file: Path) -> None:
    """The table."""
    print(
        "study | same choice % | full / race seconds | any false claim %: full, full by the race's "
        "rules, race | claims: the same | subset % | of full's own %"
    )
    for name, outcome in sorted(json.loads(file.read_text()).items()):
        print(describe(f"{name} ({outcome['studies']})", outcome["means"]))


def main(arguments: list[str] | None = None) -> None:
    """The command above."""
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    measuring = verbs.add_parser("measure")
    measuring.add_argument("--json", type=Path, default=RESULTS)
    measuring.add_argument("--share", type=float, default=1.0, help="of the studies")
    measuring.add_argument("--only", default="", help="of this name, or else with it inside")
    measuring.add_argument("--seconds", type=float, default=1e9, help="of each scenario")
    storing = verbs.add_parser("grid")
    packing = verbs.add_parser("pack")
    for verb in (storing, packing):
        optional: dict[str, Any] = {"nargs": "?", "default": PACKED} if verb is storing else {}
        verb.add_argument("store", type=Path, **optional)
        if verb is packing:
            verb.add_argument("file", type=Path)
        verb.add_argument("overrides", nargs="*", help="settings that the study ran with")
        verb.add_argument("--study", type=Path, default=Path(__file__).parent / "grid.yaml")
        verb.add_argument("--task", action="append", default=[], help="these alone")
    storing.add_argument("--draws", type=int, default=20, help="further races of each task")
    storing.add_argument("--json", type=Path)
    page = verbs.add_parser("page")
    page.add_argument("--json", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.verb == "measure":
        measure(options)
    elif options.verb == "grid":
        names = options.task or (PACKED_TASKS if options.store == PACKED else ())
        study = select_tasks(Study.load(options.study, options.overrides), names)
        try:
            with open_packed(options.store) as folder, Grid.open(study, folder) as grid:
                rows = race_grid(grid, options.draws)
        except MissingRunsError as error:
            parser.error(str(error))
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1) + "\n")
        print(summarise_grid(rows))
    elif options.verb == "pack":
        study = Study.load(options.study, options.overrides)
        with Grid.open(study, options.store) as grid:
            part = select_tasks(grid.study, options.task)
            keys = {task.key for task in part.tasks}
            records = [own for own in grid.records.values() if own.run.task.key in keys]
            pack_records(part, records, options.store, options.file)
    else:
        print_page(options.json)


if __name__ == "__main__":
    main()
