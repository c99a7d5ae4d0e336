"""True fronts of what searches have found, beside one another with equal budgets.

    paretune run bench/search.yaml --store search
    python bench/search.py search [--repetition 1001 --repetition 1002] [--against tuned-lora]

A search is judged by the configurations that it entered (``finalists``): trained anew with fresh
seeds, tested once. Its hypervolume is the area of test score over the logarithm of trained
parameters, from the majority answer's score and up to the dearest configuration of any search, as a
share of the area of all searches together. Each resampling of test rows is the same for all of
them, so differences are paired: the interval has 95 % of the resampled differences. It knows
nothing of other seeds and other searches; repetitions show these. The seconds of a search are the
training seconds of its trials, also of those that another search tried too.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paretune.analysis.cell import Cell
from paretune.analysis.cells import group_into_cells
from paretune.analysis.pareto.costs import count_trained_parameters
from paretune.analysis.statistics.scores import RunScores
from paretune.errors import ParetuneError
from paretune.planning.expand import expand_study
from paretune.planning.prepare import prepare_study
from paretune.store import Store
from paretune.study import Study
from paretune.verbs.report import StudyResults, load_results
from paretune_autopeft.surrogate import find_front

CONTROL = "random"
DRAWS = 500
Array = NDArray[np.float64]


def group_by_search(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """The cells that each search has entered, by its label: ``tpe``, ``tpe-2``, ``tpe-3``."""
    searches: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.name == "auto" and cell.run_scores is not None:
            searches.setdefault(re.sub(r"-[23]$", "", cell.method), []).append(cell)
    return searches


def _resample(scores: RunScores) -> Array:
    """The score, and what it would be on rows drawn anew: the same rows for every search."""
    rows = scores.values.mean(axis=0)
    drawn = np.random.default_rng(len(rows)).integers(0, len(rows), (DRAWS, len(rows)))
    return np.append(scores.estimate, rows[drawn].mean(axis=1))


def measure_areas(cells: Sequence[Cell]) -> dict[str, Array]:
    """Hypervolumes of one task's searches as shares of all together: (1 + draws,) each.

    The first is of the scores themselves.
    """
    searches = group_by_search(cells)
    every = [cell for own in searches.values() for cell in own]
    prices = {c.method: float(np.log(count_trained_parameters(c) or 1.0)) for c in every}
    highest = max(prices.values()) + 0.1
    majority = next((c for c in cells if c.method == "majority" and c.run_scores), None)
    worst = majority.run_scores.estimate if majority is not None and majority.run_scores else 0.0
    scores = {c.method: _resample(c.run_scores) for c in every if c.run_scores}
    draws = min(map(len, scores.values()))

    def area(own: Sequence[Cell], draw: int) -> float:
        costs = np.array([prices[c.method] for c in own])
        drawn = np.array([scores[c.method][draw] for c in own])
        return find_front(costs, drawn, worst, highest).hypervolume

    whole = np.array([max(area(every, draw), 1e-12) for draw in range(draws)])
    return {
        name: np.array([area(own, draw) for draw in range(draws)]) / whole
        for name, own in searches.items()
    }


def describe_task(
    task: str, areas: Sequence[Mapping[str, Array]], other: str = CONTROL
) -> Iterator[str]:
    """One line for each search, over its repetitions; beside another search of each."""
    for name in areas[0]:
        own = np.mean([of_one[name] for of_one in areas], axis=0)
        text = f"{task} {name}: {own[0]:.3f} of the area of all"
        if name != other and all(other in of_one for of_one in areas):
            by_repetition = [of_one[name] - of_one[other] for of_one in areas]
            gaps = np.mean(by_repetition, axis=0)
            low, high = np.quantile(gaps[1:], [0.025, 0.975])
            text += f", {gaps[0]:+.3f} [{low:+.3f}, {high:+.3f}] against {other}"
            if len(areas) > 1:
                text += f" ({', '.join(f'{own_gaps[0]:+.3f}' for own_gaps in by_repetition)})"
        yield text


def sum_seconds(results: StudyResults, store: Store, task: str) -> dict[str, float]:
    """Training seconds of the trials of each search of a task, by its label.

    Raises:
        SystemExit: a trial has not ended.
    """
    of_run = {record.run_id: record.train_seconds or 0.0 for record in results.records}
    prepared = prepare_study(results.study).in_store(store, "cpu")
    seconds: dict[str, float] = {}
    for one in expand_study(prepared, results.records):
        if one.proposed_by is not None and one.run.task.key == task:
            label = re.sub(r"-[23]$", "", one.proposed_by[1])
            if one.proposed_by[1] == label:
                if one.run_id not in of_run:
                    raise SystemExit(f"{results.study.study}: a trial on {task} has not ended.")
                seconds[label] = seconds.get(label, 0.0) + of_run[one.run_id]
    return seconds


def report(options: argparse.Namespace, store: Store) -> None:
    """Print fronts and seconds."""
    by_task: dict[str, list[dict[str, Array]]] = {}
    seconds_by_task: dict[str, list[dict[str, float]]] = {}
    for seed in (None, *options.repetition):
        settings = [] if seed is None else [f"protocol.tuning_seed={seed}"]
        study = Study.load(options.study, settings)
        results = load_results(study, options.store)
        cells = group_into_cells(results.study, results.records)
        for task in results.study.tasks:
            own = [cell for cell in cells if cell.task == task.key]
            if not group_by_search(own):
                continue
            by_task.setdefault(task.key, []).append(measure_areas(own))
            seconds_by_task.setdefault(task.key, []).append(sum_seconds(results, store, task.key))
    for task_key, areas in by_task.items():
        print(*describe_task(task_key, areas, options.against), sep="\n")
        for name in (repetitions := seconds_by_task[task_key])[0]:
            mean = float(np.mean([of_search[name] for of_search in repetitions]))
            print(f"{task_key} {name}: {mean:.0f} s of trials")


def main(arguments: list[str] | None = None) -> None:
    """The command above."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--repetition", type=int, action="append", default=[], metavar="SEED")
    parser.add_argument("--against", default=CONTROL, help="label of a search")
    parser.add_argument("--study", type=Path, default=Path(__file__).parent / "search.yaml")
    options = parser.parse_args(arguments)
    try:
        with Store.open(options.store) as store:  # it knows what `precision: auto` means there
            report(options, store)
    except ParetuneError as error:  # a repetition has not run
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
