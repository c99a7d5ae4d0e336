"""A whole study, by hand and by paretune: how long it takes, and whether both find the same.

Four tasks with the lengths of BoolQ, RTE, CB and COPA (random words, among them some that tell the
label), several methods, learning rates and seeds. By hand: bench/plain_study.py, a process for
each core. By paretune: `paretune run --workers N`, from its start to its end. Both choose the rate
on the same selection part and answer the same test part.

paretune does more: baselines without a model, and the solo measurement of each method's cost. Its
time is told with these; beside it stand the seconds of the same runs alone, all processes together
and without their start.

    python bench/whole_study.py --quick
    python bench/whole_study.py --json study.json
    python bench/whole_study.py --race recommendation --seeds 5     paretune stops what is decided

Left out, on both sides: prefix tuning, since PEFT's does not run on encoders in transformers 5.
"""

from __future__ import annotations

import argparse
import json
import os
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
from workload import TASKS, lengths, model_folder

Cell = tuple[str, str]
MARK = 0.12
"""Share of the words that tell the label."""
METHODS = ("full", "lora", "loha", "prompt", "pfeiffer", "head_only")
TUNING_SEED = 0


def vocabulary(folder: Path) -> list[str]:
    """Words that are one token each."""
    from transformers import AutoTokenizer

    known = AutoTokenizer.from_pretrained(folder).get_vocab()
    plain = set(string.ascii_lowercase + string.digits)
    return sorted(w for w in known if len(w) > 1 and set(w) <= plain and not w.isdigit())


def write_task(name: str, folder: Path, words: list[str], train: int, test: int) -> dict[str, Any]:
    """Files of one task, and what a study says of it."""
    shape = TASKS[name]
    drawn = np.random.default_rng(sorted(TASKS).index(name))
    listed = np.array(words)  # made anew of a list at every word, it took minutes
    known = drawn.choice(listed, (max(shape.labels, 2), 6), replace=False)
    sizes = iter(lengths(shape, (train + test) * shape.choices, seed=1))

    def text(count: int, marks: Any) -> str:
        results = drawn.random(count) < MARK
        results[drawn.integers(count)] = True
        return " ".join(
            str(drawn.choice(marks) if mark else drawn.choice(listed)) for mark in results
        )

    def row(i: int) -> dict[str, str]:
        label = i % shape.labels
        if shape.kind == "multiple_choice":
            topic = int(drawn.integers(len(known)))
            sides = [known[topic if c == label else 1 - topic] for c in range(shape.choices)]
            halves = [max(2, (next(sizes) - 3) // 2) for _ in sides]
            answers = {f"choice{c}": text(halves[c], marks) for c, marks in enumerate(sides)}
            return {"text": text(halves[0], known[topic]), **answers, "label": str(label)}
        count = max(4, next(sizes) - 3)
        second = max(2, count // 8)
        first = text(count - second, known[label])
        return {"text": first, "second": text(second, listed), "label": f"label{label}"}

    for part, rows in (("train", train), ("test", test)):
        lines = [json.dumps(row(i)) for i in range(rows)]
        (folder / f"{name}-{part}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    more: dict[str, Any] = (
        {"choices": [f"choice{c}" for c in range(shape.choices)]}
        if shape.kind == "multiple_choice"
        else {"text_pair": "second"}
    )
    return {
        "name": name, "kind": shape.kind, "text": "text", "label": "label", "metric": "accuracy",
        "train": str(folder / f"{name}-train.jsonl"), "test": str(folder / f"{name}-test.jsonl"),
        **more,
    }  # fmt: skip


def study_of(folder: Path, model: str, options: argparse.Namespace) -> dict[str, Any]:
    """The study file's content, its data written beside it."""
    from paretune import methods
    from paretune.models.sources.resolve import resolve_source
    from paretune.study import ModelSpec

    words = vocabulary(resolve_source(ModelSpec(name=model)).folder)
    tried = []
    for name in options.methods.split(","):
        rates = methods.get(name).learning_rates
        middle = len(rates) // 2
        kept = rates if options.rates >= len(rates) else rates[middle : middle + options.rates]
        tried.append({"name": name, "learning_rates": list(kept)})
    return {
        "study": "whole",
        "tasks": [
            write_task(name, folder, words, options.rows, options.test_rows)
            for name in options.tasks.split(",")
        ],
        "models": [{"name": model, "label": options.model}],
        "methods": tried,
        "protocol": {
            "trials": len(tried[0]["learning_rates"]),
            "folds": 1,
            "seeds": list(range(1, options.seeds + 1)),
            "tuning_seed": TUNING_SEED,
            "outer": "split",
            "race": options.race,
        },
        "training": {
            "batch_size": options.batch,
            "max_steps": options.steps,
            "patience": None,
            "max_length": 256,
        },
    }


def by_paretune(file: Path, store: Path, workers: int) -> float:
    """Seconds of the command."""
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "paretune", "run", str(file), "--store", str(store),
         "--workers", str(workers), "--threads", "1", "--no-report"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"paretune run failed:\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}")
    return time.perf_counter() - begun


def found_by_paretune(
    file: Path, store: Path
) -> tuple[dict[Cell, list[list[bool]]], dict[str, float]]:
    """Right answers of each cell, and seconds: ``compared`` runs, ``cost`` runs, ``baselines``."""
    from paretune.store import Store
    from paretune.study import Study

    study = Study.load(file)
    method_names = {method.key for method in study.methods}
    correct: dict[Cell, list[list[bool]]] = {}
    with Store.open(store) as opened:
        for record in opened.load_records(study.study_hash, predictions=True):
            cell = (record.run.task.key, record.run.method.key)
            if (
                record.run.stage == "final"
                and cell[1] in method_names
                and record.outcome != "diverged"
            ):
                results = record.predictions["test"]
                pairs = zip(results.label, results.prediction, strict=True)
                correct.setdefault(cell, []).append([a == b for a, b in pairs])
        states = opened.load_statuses(study.study_hash)
    seconds = {"compared": 0.0, "cost": 0.0, "baselines": 0.0}
    for state in states:
        kind = "compared" if state.run.method.key in method_names else "baselines"
        seconds["cost" if state.run.stage == "cost" else kind] += state.seconds or 0.0
    return correct, seconds


def by_hand(file: Path, workers: int) -> tuple[dict[Cell, list[list[bool]]], float, float, bool]:
    """The same study by the plain loop.

    Returns:
        Right answers, seconds from start to end, seconds of the runs, whether bf16 was used.
    """
    import plain_study

    from paretune.measuring.devices import is_bf16_fast
    from paretune.study import Run, Study

    study = Study.load(file)
    tasks = {task.key: task for task in study.tasks}
    specs = {method.key: method for method in study.methods}

    def run(stage: str, cell: Cell, rate: float, seed: int) -> Run:
        return Run.model_validate(
            {
                "stage": stage, "task": tasks[cell[0]], "model": study.models[0],
                "method": specs[cell[1]], "learning_rate": rate, "seed": seed,
                "training": study.training,
            }
        )  # fmt: skip

    def rates(method: str) -> list[float]:
        return [float(rate) for rate in specs[method].learning_rates or ()]

    cells = [(task, method) for task in tasks for method in specs]
    tune = {c: [run("tune", c, rate, TUNING_SEED) for rate in rates(c[1])] for c in cells}

    def final(cell: Cell, rate: float) -> list[Run]:
        return [run("final", cell, rate, seed) for seed in study.protocol.seeds]

    begun = time.perf_counter()
    cast = is_bf16_fast()[0]
    correct, seconds = plain_study.whole(tune, final, workers, cast)
    return correct, time.perf_counter() - begun, seconds, cast


def difference(ours: Any, theirs: Any, draws: int = 4000) -> list[float]:
    """Mean accuracy of paretune less that by hand, with its 95% interval.

    Test rows are drawn anew, the same for both sides, and the seeds of each side.
    """
    a, b = np.array(ours, dtype=float), np.array(theirs, dtype=float)
    drawn = np.random.default_rng(0)
    values = []
    for _ in range(draws):
        rows = drawn.integers(0, a.shape[1], a.shape[1])
        mine, other = (side[drawn.integers(0, len(side), len(side))] for side in (a, b))
        values.append(mine[:, rows].mean() - other[:, rows].mean())
    low, high = (float(v) for v in np.quantile(values, (0.025, 0.975)))
    return [float(a.mean() - b.mean()), low, high]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Both ways, as often as asked for; the way that begins changes."""
    from turns import quartiles

    hand: list[float] = []
    own: list[float] = []
    runs: dict[str, list[float]] = {"hand": [], "paretune": []}
    rounds_seconds: list[dict[str, float]] = []
    correct: dict[str, dict[Cell, Any]] = {}
    cast = False
    with model_folder(options.model) as model, tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        content = study_of(folder, model, options)
        file = folder / "whole.yaml"
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")  # JSON is YAML

        def turn_by_hand() -> bool:
            correct["hand"], seconds, alone, used = by_hand(file, options.workers)
            hand.append(seconds)
            runs["hand"].append(alone)
            return used

        def turn_by_paretune(number: int) -> None:
            store = folder / f"store{number}"
            own.append(by_paretune(file, store, options.workers))
            correct["paretune"], seconds = found_by_paretune(file, store)
            runs["paretune"].append(seconds["compared"])
            rounds_seconds.append(seconds)

        for number in range(options.rounds):
            if number % 2:
                turn_by_paretune(number)
            cast = turn_by_hand()
            if not number % 2:
                turn_by_paretune(number)
    cells = []
    for cell, theirs in correct["hand"].items():
        ours = correct["paretune"].get(cell)
        if ours is None:
            reason = "every seed diverged" if options.race == "off" else "no final run"
            cells.append({"task": cell[0], "method": cell[1], "left_out": reason})
            continue
        results = difference(ours, theirs)
        cells.append(
            {
                "task": cell[0],
                "method": cell[1],
                "paretune": float(np.mean(ours)),
                "by_hand": float(np.mean(theirs)),
                "difference": results,
                "equal": results[1] <= 0.0 <= results[2],
            }
        )
    return {
        "model": options.model,
        "protocol": content["protocol"],
        "training": content["training"],
        "rows": options.rows,
        "test_rows": options.test_rows,
        "precision": "bf16" if cast else "fp32",
        "runs_by_hand": len(cells)
        * (options.seeds + (content["protocol"]["trials"] if options.rates > 1 else 0)),
        "seconds_by_hand": hand,
        "seconds_by_paretune": own,
        "seconds_of_runs": runs,
        "seconds_of_paretune": rounds_seconds,
        "ratio": quartiles([a / b for a, b in zip(hand, own, strict=True)]),
        "ratio_same_runs": quartiles(
            [a / b for a, b in zip(runs["hand"], runs["paretune"], strict=True)]
        ),
        "cells": cells,
    }


def tables(case: dict[str, Any]) -> Iterator[str]:
    """What was found, as text."""
    from turns import format_quartiles

    hand, own = (float(np.median(case[f"seconds_by_{who}"])) for who in ("hand", "paretune"))
    yield f"\n{case['model']}, {case['runs_by_hand']} runs by hand in {case['precision']}"
    yield f"  by hand {hand:.0f} s, paretune {own:.0f} s with its baselines and measurements"
    spent = case["seconds_of_paretune"][-1]
    results = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in spent.items())
    yield f"  paretune's runs, all processes together: {results}"
    runs = (
        "the same runs"
        if case["protocol"].get("race", "off") == "off"
        else "the runs of either side"
    )
    yield (
        f"  ratio {format_quartiles(case['ratio'])}; of {runs} alone "
        f"{format_quartiles(case['ratio_same_runs'])}"
    )
    for cell in case["cells"]:
        name = f"{cell['task']}, {cell['method']}"
        if "left_out" in cell:
            yield f"  {name:<20} {cell['left_out']}"
            continue
        middle, low, high = cell["difference"]
        yield (
            f"  {name:<20} paretune {cell['paretune']:.2f}, by hand {cell['by_hand']:.2f}, "
            f"difference {middle:+.2f} [{low:+.2f}, {high:+.2f}]"
            f"{'' if cell['equal'] else '  NOT EQUAL'}"
        )
    compared = [cell for cell in case["cells"] if "equal" in cell]
    equal = sum(cell["equal"] for cell in compared)
    yield (
        f"  {equal} of {len(compared)} cells are equal; at 95% about {0.05 * len(compared):.0f} "
        "are not, by chance"
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="minilm", help="minilm, e5-small, bert-base, a folder")
    parser.add_argument("--tasks", default=",".join(TASKS), help="comma-separated")
    parser.add_argument("--methods", default=",".join(METHODS), help="comma-separated")
    parser.add_argument("--rates", type=int, default=3, help="learning rates on trial")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40, help="of every run")
    parser.add_argument("--rows", type=int, default=320, help="for training and selection")
    parser.add_argument("--test-rows", type=int, default=100)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--race", choices=("off", "recommendation"), default="off")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="two methods, one rate, few steps")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(arguments)
    if options.quick:
        small = {"methods": "lora,prompt", "rates": 1, "seeds": 1, "steps": 6, "rows": 60,
                 "test_rows": 30, "batch": 8}  # fmt: skip
        vars(options).update(small)
    from turns import about, save

    results = about(workers=options.workers, rounds=options.rounds, cases=[])
    results["cases"].append(measure(options))
    print("\n".join(tables(results["cases"][-1])), flush=True)
    save(results, options.json)


if __name__ == "__main__":
    main()
