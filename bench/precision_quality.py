"""bf16 against fp32 in quality: the sample study's task `follows`, both precisions, equal seeds.

    python bench/precision_quality.py --seeds 5 --folder runs/precisions

Prints for each method the accuracy in both precisions and their difference with its 95 % interval
over seeds and examples. Every run is kept in a store, so the same command continues.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from paretune.analysis.cells import group
from paretune.analysis.difference import difference_of
from paretune.analysis.interval import interval_of
from paretune.execution.executor import real_executor
from paretune.execution.stop import Stop
from paretune.execution.worker import work
from paretune.planning import opening
from paretune.store import Store
from paretune.study import Study
from paretune.verbs import places

METHODS = ("full", "lora", "loha")
PRECISIONS = ("fp32", "bf16")


def study_in(precision: str, seeds: int, methods: tuple[str, ...]) -> Study:
    """The sample study with one task, these methods and more seeds, in one precision."""
    sample = places.asked("sample")
    return sample.model_copy(
        update={
            "tasks": tuple(t for t in sample.tasks if t.name == "follows"),
            "methods": tuple(m for m in sample.methods if m.name in methods),
            "protocol": sample.protocol.model_copy(update={"seeds": tuple(range(1, seeds + 1))}),
            "training": sample.training.model_copy(update={"precision": precision}),
        }
    )


def scored_cells(precision: str, options: argparse.Namespace) -> dict[str, object]:
    """Train what is missing; by method, its cell."""
    study = study_in(precision, options.seeds, tuple(options.methods.split(",")))
    with Store.open(options.folder / precision, create=True) as store:
        context = opening.context(store, "cpu")
        store.save_study(study.study_hash, study.study, "", study.canonical())
        while opening.add_missing(study, context, store):
            work(
                store,
                study.study_hash,
                real_executor("cpu", 1),
                stop=Stop(),
                stages=("tune", "final"),
            )
        cells = group(study, store.records(study.study_hash, predictions=True))
    return {cell.method: cell for cell in cells if cell.name in METHODS}


def main() -> None:
    """Parse the options, train, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--folder", type=Path, help="where the two stores are kept")
    options = parser.parse_args()
    options.folder = options.folder or Path(tempfile.mkdtemp(prefix="paretune-precisions-"))
    cells = {precision: scored_cells(precision, options) for precision in PRECISIONS}
    for method, half in cells["bf16"].items():
        whole = cells["fp32"][method]
        lines = [interval_of(cell.scored) for cell in (whole, half)]
        apart = difference_of(half.scored, whole.scored)
        print(
            f"{method}: fp32 {lines[0].estimate:.3f} [{lines[0].low:.3f}, {lines[0].high:.3f}], "
            f"bf16 {lines[1].estimate:.3f} [{lines[1].low:.3f}, {lines[1].high:.3f}], "
            f"bf16 less fp32 {apart.estimate:+.3f} [{apart.low:+.3f}, {apart.high:+.3f}] "
            f"({apart.n_examples} examples, {options.seeds} seeds)",
            flush=True,
        )


if __name__ == "__main__":
    main()
