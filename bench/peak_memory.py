"""Peak memory of training: every side in a process of its own, its longest batch first.

The peak is the kernel's high-water mark of the resident set (VmHWM), opening the model included.
It is told whole, as a user's process has it, and over what the imports hold.

    python bench/peak_memory.py
    python bench/peak_memory.py --model bert-base --methods lora,full --json memory.json

Ratios are the peaks over the imports, the other side's / paretune's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Iterator
from functools import partial
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def measure_alone(settings: argparse.Namespace) -> dict[str, int]:
    """Train some steps in this process; bytes held after the imports, and at the peak."""
    # All libraries of both sides are imported before the first look, whichever side this is.
    import peft  # noqa: F401
    import torch
    from sides import VARIANTS, side
    from steps import quiet
    from turns import reset_high_water
    from workload import Work, grouped_by_length

    from paretune.measuring.memory import read_status_bytes, warm_libraries

    quiet()
    torch.set_num_threads(settings.threads)
    warm_libraries()
    work = Work(settings.model, settings.folder, settings.task)
    encoded = work.encoded
    batches = grouped_by_length(encoded.lengths, work.shape.batch, settings.steps)
    longest = sorted(range(len(encoded.lengths)), key=lambda i: (-encoded.lengths[i], i))
    imports = reset_high_water()
    trained_side = side(work, settings.method, VARIANTS[settings.variant])
    loaded = read_status_bytes("VmHWM")
    for number, batch in enumerate([longest[: work.shape.batch], *batches]):
        trained_side.step(batch, number)
    return {
        "imports": imports,
        "loaded": loaded,
        "peak": read_status_bytes("VmHWM"),
        "trained": trained_side.trained,
    }


def summary(kept: dict[str, list[dict[str, int]]]) -> dict[str, Any]:
    """Medians of each side, and ratios."""
    from sides import PAIRS

    sides: dict[str, dict[str, Any]] = {
        name: {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
        | {"over_imports": [turn["peak"] - turn["imports"] for turn in turns]}
        for name, turns in kept.items()
    }
    over = {name: statistics.median(row["over_imports"]) for name, row in sides.items()}
    peaks_read = {f"{a} / {b}": over[a] / over[b] for a, b in PAIRS if a in over and b in over}
    return {"sides": sides, "ratios": peaks_read}


def tables(case: dict[str, Any]) -> Iterator[str]:
    """What was found of one method, as text."""
    yield f"\n{case['model']}, {case['task']}, {case['method']}, MiB: peak, imports, over them"
    for name, row in case.get("sides", {}).items():
        over = statistics.median(row["over_imports"]) / 2**20
        yield f"  {name:<9}{row['peak'] / 2**20:8.0f}{row['imports'] / 2**20:8.0f}{over:8.0f}"
    for name, ratio in case.get("ratios", {}).items():
        yield f"  {name}: {ratio:.2f}"
    if "left_out" in case:
        yield f"  left out: {case['left_out']}"


def main(arguments: list[str] | None = None) -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="minilm", help="minilm, e5-small, bert-base, a folder")
    parser.add_argument("--task", default="boolq")
    parser.add_argument("--methods", default="lora,full", help="comma-separated")
    parser.add_argument("--variants", help="comma-separated")
    parser.add_argument("--steps", type=int, default=4, help="after the longest batch")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--alone", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.alone:
        print(json.dumps(measure_alone(argparse.Namespace(**options.alone))))
        return
    from sides import WITH_BF16, no_counterpart, usual
    from turns import about, in_fresh_process, in_rounds, save
    from workload import TASKS, model_folder

    # In bf16 always: memory is what it is, whether or not the machine is faster by it.
    every = ",".join(dict.fromkeys((*WITH_BF16, *usual())))
    results = about(threads=options.threads, rounds=options.rounds, cases=[])
    with model_folder(options.model) as folder:
        for method in options.methods.split(","):
            case = {"model": options.model, "task": options.task, "method": method}
            if reason := no_counterpart(method, TASKS[options.task].kind):
                case["left_out"] = reason
            else:
                settings = {**case, "folder": folder, "steps": options.steps}
                settings["threads"] = options.threads
                sides = {
                    name: partial(in_fresh_process, __file__, {**settings, "variant": name})
                    for name in (options.variants or every).split(",")
                }
                case |= summary(in_rounds(sides, options.rounds))
            results["cases"].append(case)
            print("\n".join(tables(case)), flush=True)
            save(results, options.json)


if __name__ == "__main__":
    main()
