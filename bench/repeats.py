"""What repeats of a cross-validation are worth, and whether verdicts over them hold, on real runs.

    python bench/repeats.py measure POOL ...     (hours; goes on where it stopped)
    python bench/repeats.py estimate             prints said and seen scatter, claims and widths

The data sets are those of ``row_factor.py``: 300 rows each that share none. On each, full
fine-tuning, LoRA, TF-IDF and *LoRA again* (other seeds under another name) are trained in three
repeats of five folds. LoRA and LoRA again are equal in truth: whatever is claimed of them is false.
The package's formula says the variance of each difference after one, two and three passes; over the
data sets of a pool the differences scatter by what it is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from row_factor import EPOCHS, FOLDS, RATES, ROWS, cut_data_sets, decode, load, prepare, run_command

from paretune.analysis.design import TestDesign
from paretune.analysis.statistics.differences import (
    Estimate,
    estimate_variances,
    moderate_scatters,
    on_common_rows,
)
from paretune.analysis.statistics.multiple_testing import correct_for_looks
from paretune.analysis.statistics.scores import RunScores, ratio_of_sums
from paretune.planning.prepare import PreparedCell, PreparedStudy
from paretune.preparation import ProcessCache
from paretune.study import NO_MODEL, MethodSpec, OuterFold, derive_seed
from paretune.training import TrainerOptions
from paretune.training.trainer import train_run

RECORD = Path(__file__).parent / "results" / "repeats.jsonl"
PASSES = 3
AGAIN = "lora-again"
METHODS = ("full", "lora", AGAIN, "tfidf")
NULL = ("lora", AGAIN)
Passes = list[tuple[str, str]]
"""Of each pass, which rows are answered rightly, in hexadecimal digits, and the fold of each."""


def train(prepared: PreparedStudy, cell: PreparedCell, first_seed: int, folder: Path) -> Passes:
    """What a method answers in every pass."""
    caches = prepared.caches
    options = TrainerOptions(checkpoint_seconds=1e9, keep_bytes=0)
    tables = []
    for position in range(FOLDS * PASSES):
        outer = OuterFold.at(position, FOLDS)
        rate, seed = RATES[cell.method.name], first_seed + position
        run = prepared.make_run(cell, "final", rate, seed, outer=outer)
        outcome = train_run(run, checkpoint=folder / str(seed), caches=caches, options=options)
        tables.append(json.loads(outcome.blobs["predictions"])["test"])
    answers = []
    for start in range(0, len(tables), FOLDS):
        right, folds = np.zeros(ROWS, int), np.zeros(ROWS, int)
        for index, part in enumerate(tables[start : start + FOLDS]):
            rows = [int(uid.rsplit(":", 1)[-1]) - 1 for uid in part["uid"]]
            right[rows] = np.equal(part["prediction"], part["label"])
            folds[rows] = index
        digits = int("".join(map(str, right)), 2)
        answers.append((f"{digits:0{ROWS // 4}x}", "".join(map(str, folds))))
    return answers


def measure(files: Sequence[Path], record: Path) -> None:
    """Train what the record does not hold, and append a line for each data set."""
    done = {(line["pool"], line["number"]) for line in load(record)}
    caches = ProcessCache()
    for name, number, rows in cut_data_sets(files):
        if (name, number) in done:
            continue
        began, seed = time.monotonic(), derive_seed(number, name) % 10**6
        right, folds = {}, list[str]()
        for method in METHODS:
            with TemporaryDirectory() as folder:
                prepared = prepare(rows, EPOCHS.get(name, 2), Path(folder), caches)
                by_name = {cell.method.name: cell for cell in prepared.cells}
                spec = MethodSpec(name="tfidf")
                by_name["tfidf"] = PreparedCell(prepared.tasks[0], NO_MODEL, spec)
                cell = by_name[method.removesuffix("-again")]
                passes = train(prepared, cell, seed + 1000 * (method == AGAIN), Path(folder))
            right[method] = [digits for digits, _ in passes]
            folds = [where for _, where in passes]
        caches.datasets.clear()
        caches.encoded.clear()
        line = {"pool": name, "number": number, "folds": folds, "right": right}
        line["seconds"] = round(time.monotonic() - began, 1)
        with record.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
        print(name, number, line["seconds"], flush=True)


def judge(line: Mapping[str, Any], passes: int) -> dict[tuple[str, str], Estimate]:
    """The difference of each pair of methods on a data set after so many passes."""
    folds = np.array([[int(digit) for digit in text] for text in line["folds"][:passes]])
    scores = {}
    for method in METHODS:
        right = np.stack([decode(digits) for digits in line["right"][method][:passes]])
        scores[method] = RunScores(
            uid=tuple(map(str, range(ROWS))),
            label=(0,) * ROWS,
            tables=np.stack([right, np.ones_like(right)], axis=2),
            from_sums=ratio_of_sums,
            credits=right,
            design=TestDesign(FOLDS, passes, FOLDS),
            folds=None if method == "tfidf" else folds,
        )
    tuned = {name: score for name, score in scores.items() if name != "tfidf"}
    scatters = moderate_scatters(scores, tuned)
    return {
        (a, b): estimate_variances(
            *on_common_rows(scores[a], scores[b]), [scatters.get(a), scatters.get(b)]
        )
        for a, b in combinations(METHODS, 2)
    }


def describe(lines: Sequence[Mapping[str, Any]]) -> str:
    """A table: of each pair after each pass, what is said and what is seen."""
    pools = np.array([line["pool"] for line in lines])
    table = [
        f"{len(lines)} data sets of {ROWS} rows. Points; sd seen: of differences around the mean "
        "of the other data sets of their pool (of the null, around 0).",
        "",
        "| pair | passes | mean | sd said | sd seen | inside 95 % | p < 0.05 | paid | half width |",
        "|---" * 9 + "|",
    ]
    for pair in combinations(METHODS, 2):
        for passes in range(1, PASSES + 1):
            judged = [judge(line, passes)[pair] for line in lines]
            values = np.array([estimate.value for estimate in judged])
            halves = np.array([estimate.half_width(0.05) for estimate in judged])
            p = [estimate.p_value() for estimate in judged]
            paid = [correct_for_looks(value, PASSES) for value in p]
            distances, inside = [], []
            for place, value in enumerate(values):
                rest = values[(pools == pools[place]) & (np.arange(len(values)) != place)]
                if pair != NULL and len(rest) < 2:
                    continue
                truth, more = (0.0, 0.0) if pair == NULL else (rest.mean(), 1 / len(rest))
                distances.append((value - truth) ** 2 / (1 + more))
                inside.append(abs(value - truth) <= halves[place] * np.sqrt(1 + more))
            estimated = np.sqrt(np.mean([estimate.variance for estimate in judged]))
            columns = [100 * values.mean(), 100 * estimated, 100 * np.sqrt(np.mean(distances))]
            shares = [np.mean(inside), np.mean(np.less(p, 0.05)), np.mean(np.less(paid, 0.05))]
            cells = [f"{value:.1f}" for value in columns] + [f"{100 * s:.0f} %" for s in shares]
            cells.append(f"{100 * halves.mean():.1f}")
            table.append(f"| {pair[0]} - {pair[1]} | {passes} | {' | '.join(cells)} |")
    return "\n".join(table)


if __name__ == "__main__":
    run_command(__doc__, RECORD, measure, describe)
