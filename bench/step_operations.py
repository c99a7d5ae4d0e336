"""Where a training step goes, by operation: shares of its seconds, of both sides.

    python bench/step_operations.py --model minilm --task boolq,cb

The shares are torch's profiler's (time in an operation without those that it calls), over eight
batches of similar lengths, one thread. What no operation took is Python and dispatch.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from sides import VARIANTS, side
from torch.profiler import ProfilerActivity, profile
from workload import Work, grouped_by_length, model_folder

PLACES = (  # the first that is in the name of an operation, or of what called it
    ("optimiser, clipping", ("Optimizer.step", "clip_grad", "vector_norm")),
    ("attention: softmax", ("softmax",)),
    ("attention: dropout", ("_PackedAttention", "_PackedAttentionBackward", "bernoulli_")),
    ("attention: products", ("aten::bmm", "aten::baddbmm")),
    ("attention: split, pad, mask", ("PackedAttention", "scaled_dot_product", "Bmm")),
    ("dropout of hidden states", ("_Drop", "dropout")),
    ("products", ("aten::mm", "aten::addmm")),
    ("activation", ("gelu", "silu")),
    ("normalisation", ("layer_norm", "RmsNorm")),
    ("casts", ("_to_copy", "ToCopyBackward")),
    ("additions, factors", ("aten::add", "aten::mul", "aten::div", "aten::sub")),
)
WHOLE_NAMES = frozenset(PLACES[2][1] + PLACES[3][1])
"""Looked for in the operation itself; the rest also in its callers."""
REST = "rest, dispatch"


def name_place(event: Any) -> str:
    """The part of a step that an operation belongs to."""
    callers, caller = [event.name], event.cpu_parent
    while caller is not None:
        callers.append(caller.name)
        caller = caller.cpu_parent
    path = " ".join(callers)
    for place, names in PLACES:
        if any(event.name.endswith(n) if n in WHOLE_NAMES else n in path for n in names):
            ranks = [min(shape) for shape in event.input_shapes or () if len(shape) == 2]
            adapter = place == "products" and ranks and 0 < min(ranks) <= 8
            return "products of rank 8, head" if adapter else place
    return REST


def measure(work: Work, method: str, variant: str) -> tuple[float, Counter[Any]]:
    """Milliseconds of a step, and of its parts under the profiler."""
    trained = side(work, method, VARIANTS[variant])
    batches = grouped_by_length(work.encoded.lengths, work.shape.batch, 8)

    def step_through() -> float:
        begun = time.perf_counter()
        for number, batch in enumerate(batches):
            trained.step(batch, number)
        return 1e3 * (time.perf_counter() - begun) / len(batches)

    step_through()
    fastest = min(step_through() for _ in range(3))
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
        whole = step_through()
    parts: Any = Counter()
    for event in profiled.events():
        parts[name_place(event)] += event.self_cpu_time_total / 1e3 / len(batches)
    parts[REST] += max(0.0, whole - parts.total())
    return fastest, parts


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each task."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--task", default="boolq,cb")
    parser.add_argument("--method", default="lora")
    parser.add_argument("--variants", default="b,b-nd,ours,ours-nd")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    variants = options.variants.split(",")
    for task in options.task.split(","):
        with model_folder(options.model) as folder:
            work = Work(options.model, folder, task)
            sides = [measure(work, options.method, variant) for variant in variants]
        names = sorted({n for _, parts in sides for n in parts}, key=lambda n: -sides[0][1][n])
        print(f"| {options.model}, {task}, {options.method}: % | {' | '.join(variants)} |")
        print("|---|" + "---|" * len(variants))
        print("| ms a step | " + " | ".join(f"{ms:.0f}" for ms, _ in sides) + " |")
        for name in names:
            shares = (f"{100 * parts[name] / parts.total():.1f}" for _, parts in sides)
            print(f"| {name} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main()
