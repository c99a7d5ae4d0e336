"""Where the time of a step goes, on either side: why a ratio is what it is, and what is left.

One round of batches under torch's profiler, which slows down what is many and small; so shares are
told, of the operations' own time, and the speeds are those of bench/steps.py.

    python bench/profile_steps.py
    python bench/profile_steps.py --model bert-base --task cb --json profile.json
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from sides import VARIANTS, side, usual
from steps import quiet
from torch.profiler import ProfilerActivity, profile
from turns import about, save
from workload import Work, grouped_by_length, model_folder

NARROW = 64
"""Products with a side narrower than this are a method's, not a backbone's."""
KINDS = {
    "products with layers": ("mm", "addmm", "linear"),
    "products of attention": ("bmm", "baddbmm", "_scaled_dot_product"),
    "softmax": ("_softmax", "_softmax_backward_data", "_log_softmax"),
    "dropout": ("native_dropout", "bernoulli_", "_Drop"),
    "activation, normalisation": ("gelu", "tanh", "native_layer_norm"),
    "copies": ("copy_", "index", "index_select", "cat", "masked_fill_", "clone", "fill_", "zero_"),
    "sums": ("add", "mul", "sub", "div", "sum", "where"),
}
"""By how an operation's name begins behind ``aten::``; the first that fits, the longest name."""
METHOD, REST = "products of the method", "the rest"
NODES = {
    "PackedAttention": "attention, written out",
}
"""Our own nodes, forward and backward, by what is in their names."""


def kind_of(name: str, shapes: list[Any]) -> str:
    """What an operation is counted as."""
    plain = name.removeprefix("aten::")
    for part, kind in NODES.items():
        if plain.lstrip("_").startswith(part):
            return kind
    fits = [(len(s), kind) for kind, starts in KINDS.items() for s in starts if plain.startswith(s)]
    kind = max(fits)[1] if fits else REST
    if kind == "products with layers":
        sides = [n for shape in shapes[-4:] if len(shape) == 2 for n in shape]
        if sides and min(sides) < NARROW:
            return METHOD
    return kind


def measure(work: Work, method: str, variant: str, batches: list[list[int]]) -> dict[str, float]:
    """Shares of a side's own time, by kind; they sum to 1."""
    trained_side = side(work, method, VARIANTS[variant])
    for number, batch in enumerate(batches):  # every shape is warm
        trained_side.step(batch, number)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
        for number, batch in enumerate(batches):
            trained_side.step(batch, number)
    spent: dict[str, float] = defaultdict(float)
    for event in seen.key_averages(group_by_input_shape=True):
        spent[kind_of(event.key, event.input_shapes or [])] += event.self_cpu_time_total
    total = sum(spent.values())
    return {kind: spent[kind] / total for kind in sorted(spent, key=lambda k: -spent[k])}


def tables(case: dict[str, Any]) -> Iterator[str]:
    """What was found, as text."""
    yield f"\n{case['model']}, {case['task']}, {case['method']}: share of a step, %"
    kinds = dict.fromkeys(kind for shares in case["shares"].values() for kind in shares)
    yield f"  {'':<28}" + "".join(f"{name:>14}" for name in case["shares"])
    for kind in kinds:
        cells = [f"{100 * shares.get(kind, 0.0):14.0f}" for shares in case["shares"].values()]
        yield f"  {kind:<28}{''.join(cells)}"


def main(arguments: list[str] | None = None) -> None:
    """Look at what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="minilm", help="comma-separated, as in bench/steps.py")
    parser.add_argument("--task", default="boolq,cb,copa", help="comma-separated")
    parser.add_argument("--method", default="lora")
    parser.add_argument("--variants", help="comma-separated; without (a) by default")
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(arguments)
    quiet()
    torch.set_num_threads(options.threads)
    variants = options.variants or ",".join(name for name in usual() if name != "a")
    results = about(threads=options.threads, rounds=1, cases=[])
    for model in options.model.split(","):
        with model_folder(model) as folder:
            for task in options.task.split(","):
                work = Work(model, folder, task)
                batches = grouped_by_length(work.encoded.lengths, work.shape.batch, options.batches)
                shares = {
                    name: measure(work, options.method, name, batches)
                    for name in variants.split(",")
                }
                case = {"model": model, "task": task, "method": options.method, "shares": shares}
                results["cases"].append(case)
                print("\n".join(tables(case)), flush=True)
                save(results, options.json)


if __name__ == "__main__":
    main()
