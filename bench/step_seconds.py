"""How many seconds a step takes, beside what `plan` predicts before any run has ended.

Steps of several shapes, methods and precisions are timed (seconds of the processor, one thread, no
dropout); then the passes over memory of :mod:`paretune.measuring.costs` are fitted to
them anew, by relative errors.

    python bench/step_seconds.py
    python bench/step_seconds.py --models minilm,bert-base --methods lora,full --json seconds.json
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from scipy.optimize import nnls
from sides import RATE, VARIANTS, Ours
from turns import save
from workload import Work, model_folder

from paretune.measuring.costs import (
    BACKWARD_PASSES,
    FORWARD_PASSES,
    OPTIMIZER_PASSES,
    estimate_compute_cost,
)
from paretune.measuring.machine import MachineSpeed
from paretune.measuring.model_shape import describe_trained_part, measure_shape
from paretune.training.word_tables import count_idle

BATCHES, WARM_UP = 8, 3


def time_steps(work: Work, method: str, variant: str, speed: MachineSpeed) -> dict[str, Any]:
    """Steps on batches of mixed lengths: measured, and predicted from their shapes."""
    precision, size = VARIANTS[variant].precision, work.shape.batch
    trainer = Ours(work, method, VARIANTS[variant], RATE, seed=1)
    rng = np.random.default_rng(1)
    order = [int(i) for i in rng.permutation(len(work.encoded.lengths))[: size * BATCHES]]
    batches = [order[i : i + size] for i in range(0, len(order), size)]
    for number, batch in enumerate(batches[:WARM_UP]):
        trainer.step(batch, number)
    began = time.process_time()
    for number, batch in enumerate(batches):
        trainer.step(batch, number)
    seconds = (time.process_time() - began) / BATCHES

    run, loaded = work.run(method, dropout=0.0, precision=precision, rate=RATE), work.fresh()
    lengths = [work.encoded.lengths[i] for i in order]
    part = describe_trained_part(run, loaded, trainer.trained, *count_idle(trainer.tables))
    shape, choices = measure_shape(loaded), work.shape.choices
    cost = estimate_compute_cost(run, shape, part, lengths, choices)
    optimizer_bytes = 4 * OPTIMIZER_PASSES * trainer.trained
    return {
        "model": work.model,
        "task": work.task,
        "method": method,
        "precision": precision,
        "seconds": seconds,
        "predicted": speed.predict_step_seconds(cost, precision),
        "products": cost.operations / (1e9 * speed.gigaflops[precision]),
        "layers": (cost.moved_bytes - optimizer_bytes) / (1e9 * speed.gigabytes_per_second),
        "optimizer": optimizer_bytes / (1e9 * speed.gigabytes_per_second),
    }


def fit_factors(rows: list[dict[str, Any]]) -> list[float]:
    """By how much products, passes over layers and those of the optimiser should count."""
    parts = np.array([[row[name] for name in ("products", "layers", "optimizer")] for row in rows])
    weights = 1 / np.array([row["seconds"] for row in rows])
    factors, _ = nnls(parts * weights[:, None], np.ones(len(rows)))
    return [float(factor) for factor in factors]


def main() -> None:
    """Time, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--models", default="minilm,e5-small,bert-base")
    parser.add_argument("--tasks", default="rte,copa")
    parser.add_argument("--methods", default="lora,full")
    parser.add_argument("--variants", default="ours-nd,ours-nd-fp32")
    parser.add_argument("--json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    speed, rows = MachineSpeed.measure(), []
    print(f"{dict(speed.gigaflops)} GFLOP/s, {speed.gigabytes_per_second:.1f} GB/s")
    for name in options.models.split(","):
        with model_folder(name) as folder:
            for task in options.tasks.split(","):
                work = Work(name, folder, task)
                for method in options.methods.split(","):
                    for variant in options.variants.split(","):
                        row = time_steps(work, method, variant, speed)
                        rows.append(row)
                        where = (row[key] for key in ("model", "task", "method", "precision"))
                        times = f"{1e3 * row['seconds']:.0f} ms, {1e3 * row['predicted']:.0f}"
                        print(f"{', '.join(where)}: {times}")
    ratios = [row["predicted"] / row["seconds"] for row in rows]
    print(
        f"predicted / measured: median {statistics.median(ratios):.2f}, "
        f"{min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} steps"
    )
    factors = fit_factors(rows)
    products, layers, optimizer = factors
    print(
        f"best: products x {products:.2f}, passes forward {layers * FORWARD_PASSES:.1f}, backward "
        f"{layers * BACKWARD_PASSES:.1f}, optimiser {optimizer * OPTIMIZER_PASSES:.1f}"
    )
    save({"speed": vars(speed), "steps": rows, "fit": factors}, options.json)


if __name__ == "__main__":
    main()
