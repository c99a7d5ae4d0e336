"""bf16 against fp32 in quality: the sample study's task `follows`, both precisions, equal seeds.

    python bench/precision_quality.py --seeds 5 --folder runs/precisions

Prints for each method the accuracy in both precisions and their difference with its 95 % interval
over seeds and examples. Every run is kept in a store, so the same command continues.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import paretune
from paretune.analysis.cell import Cell
from paretune.analysis.cells import group_into_cells
from paretune.analysis.statistics.intervals import confidence_interval, score_difference
from paretune.verbs.report import load_results
from paretune.verbs.study_input import load_study

METHODS = ("full", "lora", "loha")


def train(precision: str, options: argparse.Namespace) -> dict[str, Cell]:
    """Train what is missing; by method, its cell."""
    sample = load_study("sample")
    methods = options.methods.split(",")
    study = sample.model_copy(
        update={
            "tasks": tuple(t for t in sample.tasks if t.name == "follows"),
            "methods": tuple(m for m in sample.methods if m.name in methods),
            "protocol": sample.protocol.model_copy(
                update={"seeds": tuple(range(1, options.seeds + 1)), "cost_seconds": 0}
            ),
            "training": sample.training.model_copy(update={"precision": precision}),
        }
    )
    store = options.folder / precision
    paretune.run(study, store=store, workers=1)
    results = load_results(study, store)
    cells = group_into_cells(results.study, results.records)
    return {cell.method: cell for cell in cells if cell.name in methods}


def main() -> None:
    """Parse the options, train, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--folder", type=Path, help="where the two stores are kept")
    options = parser.parse_args()
    options.folder = options.folder or Path(tempfile.mkdtemp(prefix="paretune-precisions-"))
    in_fp32 = train("fp32", options)
    for method, half in train("bf16", options).items():
        whole = in_fp32[method]
        lines = [confidence_interval(cell.run_scores) for cell in (whole, half)]
        apart = score_difference(half.run_scores, whole.run_scores)
        print(
            f"{method}: fp32 {lines[0].estimate:.3f} [{lines[0].low:.3f}, {lines[0].high:.3f}], "
            f"bf16 {lines[1].estimate:.3f} [{lines[1].low:.3f}, {lines[1].high:.3f}], "
            f"bf16 less fp32 {apart.estimate:+.3f} [{apart.low:+.3f}, {apart.high:+.3f}] "
            f"({apart.n_examples} examples, {options.seeds} seeds)",
            flush=True,
        )


if __name__ == "__main__":
    main()
