"""Methods confined to the top layers: what the kept activations below them are worth.

Where all that is trained sits above some layer and no dropout is drawn, what enters that layer is
computed once, kept on disk, and shared by epochs, seeds, rates and methods. Timed are steps on
what is kept, read from disk like those of any epoch but the first, beside good practice without
dropout (b-nd) and paretune without the cache. What keeping costs, once for a task and a model, is
told in steps of (b-nd).

    python bench/trunk.py
    python bench/trunk.py --model minilm,bert-base --task cb --json trunk.json

Before a time is taken, the losses of 20 steps in fp32, with and without the cache, must be those of
`transformers` and `peft` within 1e-5.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from gate import STEPS, WITHIN
from sides import RATE, VARIANTS, Ours, Variant, side
from steps import quiet
from turns import about, format_quartiles, in_turn, quartiles, ratio, save
from workload import TASKS, Work, grouped_by_length, model_folder

from paretune.measuring.auto_precision import is_bf16_fast
from paretune.training.forward import activation_cache

METHODS = ("lora", "head_only")
"""LoRA on query and value of the top layers, and the linear probe."""


class Kept(Ours):
    """paretune on kept activations; ``seconds`` is what it took to compute and write them."""

    def __init__(self, work: Work, method: str, variant: Variant, rate: float, seed: int) -> None:
        super().__init__(work, method, variant, rate, seed)
        begun = time.perf_counter()
        notes = activation_cache.enable_activation_cache(
            self.prepared, self.forward.compute, [("train", self.data)], work.source.weights_hash
        )
        self.seconds = time.perf_counter() - begun
        if notes or not self.prepared.fleet.packing.activation_caches:  # type: ignore[union-attr]
            raise SystemExit(f"nothing was kept: {notes}")


def confined(work: Work, method: str) -> tuple[Work, int, int]:
    """The work with the method's options for the top quarter of the layers; how many of how many.

    A quarter of six layers is rounded up to two.
    """
    anatomy = work.fresh().anatomy
    layers, top = len(anatomy.layers), -(-len(anatomy.layers) // 4)
    if method == "head_only":
        return work, 0, layers
    kept = anatomy.layers[-top:]
    names = [
        name for layer in kept for name in (layer.self_attention.query, layer.self_attention.value)
    ]
    return replace(work, options={"target_modules": names}), top, layers


def apart(work: Work, method: str) -> float:
    """Largest distance of 20 losses in fp32 from the field's, with and without the cache."""
    field = VARIANTS["b-nd-fp32"]
    ours = VARIANTS["ours-nd-fp32"]
    small = replace(work, batch=4)
    drawn = np.random.default_rng(1)
    batches = [
        [int(i) for i in drawn.choice(len(work.encoded.labels), 4, replace=False)]
        for _ in range(STEPS)
    ]
    makers: list[Callable[[], Any]] = [
        partial(side, small, method, field),
        partial(side, small, method, ours),
        partial(Kept, small, method, ours, RATE, 1),
    ]
    curves = []
    for make in makers:
        built = make()
        curves.append([built.step(batch, number) for number, batch in enumerate(batches)])
    return float(np.abs(np.array(curves[1:]) - curves[0]).max())


def measure(work: Work, method: str, options: argparse.Namespace) -> dict[str, Any]:
    """One model, task and method."""
    work, top, layers = confined(work, method)
    case: dict[str, Any] = {
        "model": work.model, "task": work.task, "method": method, "top": top, "layers": layers,
        "apart": apart(work, method),
    }  # fmt: skip
    if case["apart"] > WITHIN:
        return case
    for file in activation_cache.activation_cache_home().glob("*"):
        file.unlink()  # what keeping takes is timed
    batches = grouped_by_length(work.encoded.lengths, work.shape.batch, options.batches)
    ours = "ours-nd" if is_bf16_fast()[0] else "ours-nd-fp32"
    kept = Kept(work, method, VARIANTS[ours], RATE, 1)
    sides: dict[str, Any] = {name: side(work, method, VARIANTS[name]) for name in options.field}
    sides |= {ours: side(work, method, VARIANTS[ours]), "kept": kept}

    def turn(name: str) -> None:
        for number, batch in enumerate(batches):
            sides[name].step(batch, number)

    seconds = in_turn({name: partial(turn, name) for name in sides}, options.rounds)
    examples = sum(len(batch) for batch in batches)
    speeds = {
        name: quartiles([examples / s for s in rounds_seconds])
        for name, rounds_seconds in seconds.items()
    }
    best = min(options.field, key=lambda name: quartiles(seconds[name])[0])
    return {
        **case,
        "precision": VARIANTS[ours].precision,
        "examples_per_second": speeds,
        "field": best,
        "ratio": ratio(seconds[best], seconds["kept"]),
        "ratio_without_cache": ratio(seconds[best], seconds[ours]),
        "keeping_seconds": kept.seconds,
        "keeping_steps": kept.seconds / (quartiles(seconds[best])[0] / len(batches)),
        "steps_of_an_epoch": len(work.encoded.labels) / work.shape.batch,
    }  # fmt: skip


def tables(case: dict[str, Any]) -> Iterator[str]:
    """What was found, as text."""
    where = f"top {case['top']} of {case['layers']} layers" if case["top"] else "head alone"
    yield f"\n{case['model']}, {case['task']}, {case['method']}, {where}"
    yield f"  losses at most {case['apart']:.1e} apart"
    if "ratio" not in case:
        yield "  no ratio: the sides do not train the same thing"
        return
    for name, value in case["examples_per_second"].items():
        yield f"  {name:<14} {format_quartiles(value, 1)} examples/s"
    yield f"  {case['field']} / kept: {format_quartiles(case['ratio'])}"
    yield f"  {case['field']} / without the cache: {format_quartiles(case['ratio_without_cache'])}"
    yield (
        f"  keeping took {case['keeping_seconds']:.1f} s, as {case['keeping_steps']:.0f} steps of "
        f"{case['field']}; an epoch has {case['steps_of_an_epoch']:.0f}"
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="minilm", help="comma-separated, as in bench/steps.py")
    parser.add_argument("--task", default="cb", help=f"of {', '.join(TASKS)}; comma-separated")
    parser.add_argument("--methods", default=",".join(METHODS), help="comma-separated")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=8, help="effective batches in a round")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(arguments)
    options.field = ["b-nd"] if is_bf16_fast()[0] else ["b-nd", "b-nd-fp32"]
    quiet()
    torch.set_num_threads(options.threads)
    results = about(
        threads=options.threads, rounds=options.rounds, batches=options.batches, cases=[]
    )
    with tempfile.TemporaryDirectory(prefix="paretune-bench-") as home:
        activation_cache.activation_cache_home = lambda: Path(
            home
        )  # computed anew, and nothing stays behind
        for model in options.model.split(","):
            with model_folder(model) as folder:
                for task in options.task.split(","):
                    for method in options.methods.split(","):
                        case = measure(Work(model, folder, task), method, options)
                        results["cases"].append(case)
                        print("\n".join(tables(case)), flush=True)
                        save(results, options.json)


if __name__ == "__main__":
    main()
