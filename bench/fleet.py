"""Runs together in one fleet: their peak memory beside one run by hand, and their speed beside runs
one after another.

Memory: every side in a process of its own, over the imports and whole. Speed: in turn in one
process, paretune's runs in a fleet and alone, the same seeds and steps; the ratio is alone / fleet.

    python bench/fleet.py
    python bench/fleet.py --task copa --runs 16 --json fleet.json
    python bench/fleet.py --model ./opus-mt --pairs pairs.tsv --source sl --target en --runs 8

Of translations there is no run by hand; what each makes of its selection part is cut short, so that
training is what is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import peak_memory
from turns import about, format_quartiles, in_turn, ratio, save
from whole_study import vocabulary, write_task
from workload import TASKS, model_folder

from paretune.measuring.auto_precision import is_bf16_fast
from paretune.measuring.counters import read_status_bytes
from paretune.measuring.memory import release_memory, warm_libraries
from paretune.store import Claim
from paretune.study import Generation, MethodSpec, ModelSpec, Run, TaskSpec, Training

ROWS = 64


def make_claims(options: argparse.Namespace, folder: str, place: Path) -> list[Claim]:
    """As many runs as asked for, of one seed each."""
    from paretune.models.sources.resolve import resolve_source

    model = ModelSpec(name=folder)
    if options.pairs:
        task = pairs_task(options, place)
    else:
        words = vocabulary(resolve_source(model).folder)
        task = TaskSpec.model_validate(write_task(options.task, place, words, ROWS, ROWS))
    search = Generation(num_beams=1, max_new_tokens=4) if options.pairs else None
    training = Training(
        batch_size=options.batch or TASKS[options.task].batch,
        max_steps=options.steps,
        eval_every=options.steps,
        max_length=256,
        dropout=0.1,
        precision=options.precision,
    )
    return [
        Claim(
            Run(stage="tune", task=task, model=model, method=MethodSpec(name=options.method),
                learning_rate=1e-3, seed=seed, training=training, generation=search),
            place / f"checkpoint{seed}",
        )
        for seed in range(options.runs)
    ]  # fmt: skip


def pairs_task(options: argparse.Namespace, place: Path) -> TaskSpec:
    """The first pairs of a file with a line for each, and a first line that names the columns."""
    lines = Path(options.pairs).read_text(encoding="utf-8").splitlines()[: 4 * ROWS + 1]
    file = place / "pairs.tsv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return TaskSpec(name="pairs", kind="translation", source_lang=options.source,
                    target_lang=options.target, train=str(file))  # fmt: skip


def together(claims: list[Claim], bench: Any) -> None:
    """In one fleet."""
    from paretune.training.trainer import Trainer

    Trainer(bench).train_fleet(claims, lambda free: [], lambda claim, outcome: None)


def alone(claims: list[Claim], bench: Any) -> None:
    """One after another."""
    from paretune.training.trainer import train_run

    for claim in claims:
        train_run(claim.run, checkpoint=claim.checkpoint, caches=bench)


def one(options: argparse.Namespace) -> dict[str, int]:
    """A fleet in this process; bytes held after the imports, and at the peak."""
    import peft  # noqa: F401  (both sides hold the same libraries)
    import torch

    from paretune.training.caches import ProcessCache

    torch.set_num_threads(1)
    warm_libraries()
    with tempfile.TemporaryDirectory() as place:
        claims = make_claims(options, options.folder, Path(place))
        release_memory()
        with open("/proc/self/clear_refs", "w") as mark:  # noqa: PTH123 (no file, a switch)
            mark.write("5")
        imports = read_status_bytes("VmRSS")
        together(claims, ProcessCache())
        return {"imports": imports, "peak": read_status_bytes("VmHWM")}


def in_fresh(options: argparse.Namespace, folder: str, runs: int) -> dict[str, int]:
    """The same in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", "--folder", folder, "--task", options.task,
         "--method", options.method, "--runs", str(runs), "--steps", str(options.steps),
         "--precision", options.precision, "--batch", str(options.batch),
         *(["--pairs", options.pairs, "--source", options.source, "--target", options.target]
           if options.pairs else [])],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    peaks_read: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return peaks_read


def measure(options: argparse.Namespace, folder: str) -> dict[str, Any]:
    """Memory of both sides, and speed."""
    import torch

    from paretune.training.caches import ProcessCache

    torch.set_num_threads(1)
    step_options = argparse.Namespace(model=options.model, task=options.task, steps=4, threads=1)
    variant = "b" if options.precision == "bf16" else "b-fp32"
    peaks = {}
    if not options.pairs:
        peaks["by_hand"] = peak_memory.ask(variant, options.method, folder, step_options)
    fleet, single = (in_fresh(options, folder, runs) for runs in (options.runs, 1))
    with tempfile.TemporaryDirectory() as place:
        claims, bench = make_claims(options, folder, Path(place)), ProcessCache()
        seconds = in_turn(
            {
                "alone": lambda: alone(claims, bench),
                "fleet": lambda: together(claims, bench),
            },
            options.rounds,
        )
    peaks |= {"fleet": fleet, "alone": single}
    baseline = peaks.get("by_hand", single)
    return {
        "model": options.model, "task": "pairs" if options.pairs else options.task,
        "method": options.method, "batch": options.batch or TASKS[options.task].batch,
        "runs": options.runs, "steps": options.steps, "precision": options.precision,
        "peak_bytes": peaks,
        "ratio_of_peaks": fleet["peak"] / baseline["peak"],
        "ratio_over_imports": (fleet["peak"] - fleet["imports"])
        / (baseline["peak"] - baseline["imports"]),
        "seconds": seconds,
        "alone / fleet": ratio(seconds["alone"], seconds["fleet"]),
    }  # fmt: skip


def tables(case: dict[str, Any]) -> str:
    """What was found, as text."""
    baseline = "by hand" if "by_hand" in case["peak_bytes"] else "alone"
    lines = [
        f"\n{case['model']}, {case['task']}, {case['method']}, {case['runs']} runs, "
        f"{case['precision']}",
        "  MiB: peak, imports",
    ]
    for name, row in case["peak_bytes"].items():
        lines.append(f"  {name:<9}{row['peak'] / 2**20:8.0f}{row['imports'] / 2**20:8.0f}")
    lines += [
        f"  the fleet's peak / that of one run {baseline}: {case['ratio_of_peaks']:.2f}; "
        f"over the imports {case['ratio_over_imports']:.2f}",
        f"  alone / fleet, time: {format_quartiles(case['alone / fleet'])}",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="minilm", help="minilm, e5-small, bert-base, a folder")
    parser.add_argument("--task", default="copa")
    parser.add_argument("--pairs", metavar="FILE", help="of texts to translate, instead of a task")
    parser.add_argument("--source", default="sl", help="a column of the file, its language")
    parser.add_argument("--target", default="en", help="the other one")
    parser.add_argument("--batch", type=int, default=0, help="0: the task's own")
    parser.add_argument("--method", default="lora")
    parser.add_argument("--runs", type=int, default=16)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=["fp32", "bf16"])
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.precision = options.precision or ("bf16" if is_bf16_fast()[0] else "fp32")
    if options.pairs and not options.batch:
        options.batch = 32
    if options.one:
        print(json.dumps(one(options)))
        return
    results = about(threads=1, rounds=options.rounds, cases=[])
    with model_folder(options.model) as folder:
        results["cases"].append(measure(options, folder))
    print(tables(results["cases"][-1]), flush=True)
    save(results, options.json)


if __name__ == "__main__":
    main()
