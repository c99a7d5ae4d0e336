"""Steps: how many examples a second paretune trains, beside `transformers` + `peft`.

Every side takes its turn in one process, in every round, on the same examples in the same effective
batches, with the same settings, seed and starting weights. Before a time is taken, both sides must
train the same thing (bench/gate.py); where they do not, no ratio is told.

    python bench/steps.py
    python bench/steps.py --model minilm,bert-base --task boolq,cb,copa --rounds 7
    python bench/steps.py --methods lora,loha,ia3,full --json steps.json

Ratios are medians of the ratios of rounds, with quartiles; above 1, paretune is faster. The bound
is the time that the products with the layers of the backbone would take (forward, gradients of the
inputs, and those of the weights where all of them are trained) at the speed of this machine's
fastest product of 512 tokens, without padding and with nothing else to do.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from gate import format_case, gate
from sides import PAIRS, VARIANTS, no_counterpart, side, usual
from transformers.utils import logging
from turns import about, format_quartiles, in_turn, peak_rates, quartiles, ratio, save
from workload import TASKS, Work, grouped_by_length, mixed, model_folder


def linear_flop(work: Work, method: str, tokens: int) -> float:
    """Operations of the backbone's linear layers: 2 N T forward and as many for their inputs.

    Where all weights are trained, as many again for their gradients.
    """
    loaded = work.fresh()
    parameters = sum(
        loaded.model.get_submodule(n).weight.numel() for n in loaded.anatomy.linear_layers
    )
    return (6.0 if method == "full" else 4.0) * parameters * tokens


def measure(work: Work, method: str, options: argparse.Namespace) -> dict[str, Any]:
    """One model, task and method."""
    case: dict[str, Any] = {"model": work.model, "task": work.task, "method": method}
    if reason := no_counterpart(method, work.shape.kind):
        return {**case, "left_out": reason}
    variant_names = options.variants.split(",")
    case["gate"] = gate(
        work,
        method,
        batch=options.gate_batch,
        starts=options.gate_starts,
        precisions=sorted(
            {VARIANTS[name].precision for name in variant_names if VARIANTS[name].ours}
        ),
    )
    passed = case["gate"]["passed"]
    names = [n for n in variant_names if not VARIANTS[n].ours or passed[VARIANTS[n].precision]]
    if not any(VARIANTS[name].ours for name in names):
        return case
    batches = grouped_by_length(work.encoded.lengths, work.shape.batch, options.batches)
    others = mixed(batches)
    sides = {name: side(work, method, VARIANTS[name]) for name in names}
    trained = {trained_side.trained for trained_side in sides.values()}
    if len(trained) != 1:
        raise SystemExit(f"the sides do not train equally many parameters: {trained}")

    def turn(name: str) -> None:
        for number, batch in enumerate(others if VARIANTS[name].mixed else batches):
            sides[name].step(batch, number)

    turns: dict[str, Callable[[], None]] = {name: partial(turn, name) for name in sides}
    peaks = [peak_rates()]
    seconds = in_turn(turns, options.rounds)
    peaks.append(peak_rates())
    peak = {name: max(p[name] for p in peaks) for name in peaks[0]}
    examples = sum(len(batch) for batch in batches)
    flop = linear_flop(work, method, work.tokens(batches))
    rows = {}
    for name, kept in seconds.items():
        bound = flop / peak[VARIANTS[name].precision]
        rows[name] = {
            "title": VARIANTS[name].title,
            "seconds": kept,
            "examples_per_second": quartiles([examples / s for s in kept]),
            "share_of_bound": quartiles([bound / s for s in kept]),
        }
    return {
        **case,
        "batch": work.shape.batch,
        "examples": examples,
        "tokens": work.tokens(batches),
        "trained": trained.pop(),
        "peak_flop_per_second": peak,
        "linear_flop": flop,
        "sides": rows,
        "ratios": dict(ratios(seconds)),
    }


def ratios(seconds: dict[str, list[float]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each with its like, and the field's fastest side beside our fastest."""
    for theirs, ours in PAIRS:
        if theirs in seconds and ours in seconds:
            yield f"{theirs} / {ours}", {"ratio": ratio(seconds[theirs], seconds[ours])}
    best = {
        own: min(
            (name for name in seconds if VARIANTS[name].ours == own),
            key=lambda name: statistics.median(seconds[name]),
            default="",
        )
        for own in (False, True)
    }
    theirs, ours = best[False], best[True]
    if theirs and ours:
        entry = {"ratio": ratio(seconds[theirs], seconds[ours]), "theirs": theirs, "ours": ours}
        yield "fastest / fastest", entry


def tables(case: dict[str, Any]) -> Iterator[str]:
    """What was found of one case, as text."""
    yield f"\n{case['model']}, {case['task']}, {case['method']}"
    if "left_out" in case:
        yield f"  left out: {case['left_out']}"
        return
    yield f"  {format_case(case['gate'])}"
    if "sides" not in case:
        yield "  no ratio: the sides do not train the same thing"
        return
    peak = {name: rate / 1e9 for name, rate in case["peak_flop_per_second"].items()}
    yield (
        f"  batch {case['batch']}, {case['examples']} examples of {case['tokens']:,} tokens, "
        f"{case['trained']:,} trained parameters; "
        f"peak {peak['fp32']:.0f} GFLOP/s in fp32, {peak['bf16']:.0f} in bf16"
    )
    for row in case["sides"].values():
        share = [100 * value for value in row["share_of_bound"]]
        speed = format_quartiles(row["examples_per_second"], 1)
        yield f"  {row['title']:<56} {speed:>22} examples/s, {format_quartiles(share, 0)}% of "
        "the bound"
    for name, entry in case["ratios"].items():
        which = f" ({entry['theirs']} / {entry['ours']})" if "theirs" in entry else ""
        yield f"  {name}{which}: {format_quartiles(entry['ratio'])}"


def main(arguments: list[str] | None = None) -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model",
        default="minilm",
        help="minilm, e5-small, bert-base, or a folder; comma-separated",
    )
    parser.add_argument("--task", default="boolq", help=f"of {', '.join(TASKS)}; comma-separated")
    parser.add_argument("--methods", default="lora", help="comma-separated")
    parser.add_argument(
        "--variants",
        help=f"of {', '.join(VARIANTS)}; comma-separated; by default those that "
        "make sense with or without bf16 on this machine",
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=8, help="effective batches in a round")
    parser.add_argument("--batch", type=int, help="examples in a batch; the task's own by default")
    parser.add_argument("--gate-batch", type=int, default=4, help="examples in a step of the gate")
    parser.add_argument("--gate-starts", type=int, default=5)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(arguments)
    quiet()
    torch.set_num_threads(options.threads)
    options.variants = options.variants or ",".join(usual())
    results = about(
        threads=options.threads, rounds=options.rounds, batches=options.batches, cases=[]
    )
    for model in options.model.split(","):
        with model_folder(model) as folder:
            for task in options.task.split(","):
                work = Work(model, folder, task, options.batch)
                for method in options.methods.split(","):
                    gc.collect()
                    results["cases"].append(measure(work, method, options))
                    print("\n".join(tables(results["cases"][-1])), flush=True)
                    save(results, options.json)


def quiet() -> None:
    """No warnings and no bars: models are opened many times."""
    warnings.filterwarnings("ignore")
    logging.set_verbosity_error()
    logging.disable_progress_bar()


if __name__ == "__main__":
    main()
