"""Makes a small study with a store, as ``tests/store/format_N`` keeps one of each store version.

``python dev/make_frozen_store.py FOLDER`` trains about twenty tiny runs and leaves some todo. A
folder that was committed is never made again: later versions of paretune must open it as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

from paretune.execution.run_executor import make_training_executor
from paretune.execution.signals import StopRequest
from paretune.execution.worker import WorkerOptions, run_worker
from paretune.planning import preflight
from paretune.store import Store
from paretune.study import Study
from paretune.testing.tiny_models import tiny_model

WORDS = ("cat", "dog", "ice", "door", "room", "water", "window", "prices")
STUDY = """# The study of a frozen store: small, with something of everything that a store keeps.
study: frozen
tasks:
  - name: words
    kind: classification
    train: train.csv
    test: test.csv
    text: text
    label: label
    labels: ["no", "yes"]
models:
  - {name: ./encoder, label: tiny}
methods:
  - {name: lora, rank: 2}
  - {name: full, learning_rates: [1e-4, 1e-3, 9.0]}
protocol: {trials: 3, folds: 1, seeds: [1, 2]}
training: {max_steps: 4, eval_every: 2, max_length: 32, precision: fp32}
"""


def write_inputs(folder: Path) -> None:
    """Data, model and study file."""
    folder.mkdir(parents=True)
    for name, count, shift in (("train", 40, 0), ("test", 20, 1)):
        rows = [
            f"The {WORDS[i % 8]} {'sat on' if i % 2 else 'turns into'} {name} {i + shift},"
            f"{'yes' if i % 2 else 'no'}"
            for i in range(count)
        ]
        text = "\n".join(["text,label", *rows]) + "\n"
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    tiny_model("bert", folder / "encoder")
    (folder / "study.yaml").write_text(STUDY, encoding="utf-8")


def train_most(folder: Path) -> None:
    """All rates on trial, all final runs but the last two, one cost."""
    study = Study.load(folder / "study.yaml")
    executor, stop = make_training_executor("cpu", 1, keep_bytes=50_000), StopRequest()
    with Store.open(folder / "store", create=True) as store:
        store.save_study(study.study_hash, study.study, STUDY, study.canonical_form())
        context = preflight.make_context(store, "cpu")

        def finals_todo() -> int:
            statuses = store.load_statuses(study.study_hash)
            return sum(s.state == "todo" and s.stage == "final" for s in statuses)

        preflight.add_missing_runs(study, context, store)
        run_worker(store, study.study_hash, executor, stop, WorkerOptions(("tune", "final")))
        preflight.add_missing_runs(study, context, store)
        for stage, limit in (("final", finals_todo() - 2), ("cost", 1)):
            options = WorkerOptions((stage,), limit=limit)
            run_worker(store, study.study_hash, executor, stop, options)


if __name__ == "__main__":
    write_inputs(Path(sys.argv[1]))
    train_most(Path(sys.argv[1]))
