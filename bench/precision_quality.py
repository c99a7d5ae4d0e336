"""bf16 against fp32 in quality: the sample study's task `follows`, both precisions, equal seeds.

    python bench/precision_quality.py --seeds 5 --folder runs/precisions

Prints for each method the accuracy in both precisions and their difference with its 95 % interval
over seeds and examples. Every run is kept in a store, so the same command continues.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from paretune.analysis.cells import group_into_cells
from paretune.analysis.statistics.differences import score_difference
from paretune.analysis.statistics.intervals import confidence_interval
from paretune.execution.run_executor import make_training_executor
from paretune.execution.signals import StopRequest
from paretune.execution.study_loop import add_missing_runs
from paretune.execution.worker import run_worker
from paretune.execution.worker_settings import WorkerSettings
from paretune.planning.prepare import prepare_study
from paretune.store import Store
from paretune.study import Study
from paretune.verbs import study_input

METHODS = ("full", "lora", "loha")
PRECISIONS = ("fp32", "bf16")


def study_in(precision: str, seeds: int, methods: tuple[str, ...]) -> Study:
    """The sample study with one task, these methods and more seeds, in one precision."""
    sample = study_input.resolve_study("sample")
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
        prepared = prepare_study(study).in_store(store, "cpu")
        store.save_study(study.study_hash, study.study, "", study.canonical_form())
        while add_missing_runs(prepared, store):
            run_worker(
                store,
                study.study_hash,
                make_training_executor(),
                StopRequest(),
                WorkerSettings(stages=("tune", "final")),
            )
        cells = group_into_cells(study, store.load_records(study.study_hash, predictions=True))
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
        lines = [confidence_interval(cell.bootstrap) for cell in (whole, half)]
        apart = score_difference(half.bootstrap, whole.bootstrap)
        print(
            f"{method}: fp32 {lines[0].estimate:.3f} [{lines[0].low:.3f}, {lines[0].high:.3f}], "
            f"bf16 {lines[1].estimate:.3f} [{lines[1].low:.3f}, {lines[1].high:.3f}], "
            f"bf16 less fp32 {apart.estimate:+.3f} [{apart.low:+.3f}, {apart.high:+.3f}] "
            f"({apart.n_examples} examples, {options.seeds} seeds)",
            flush=True,
        )


if __name__ == "__main__":
    main()
