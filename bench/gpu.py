"""Everything there is to know of a first GPU, in under ten minutes: `make gpu`.

Three parts, each in processes of its own: the tests marked gpu (tests/gpu); steps, transformers
with peft and paretune in turn; memory by phase, each side in a fresh process, several at once,
since the counters are those of a process. Writes one JSON and one page. What the time did not
suffice for is named.

    python bench/gpu.py --out bench/results/gpu
    python bench/gpu.py --out /tmp/gpu --device cpu --tiny     (tries the program on a CPU)

Needs no network and no installed paretune (PYTHONPATH=src): torch, transformers, peft, pytest and
what paretune itself imports; `nvidia-ml-py` for the bytes of the process. Where MiniLM's
package is not installed, a model of its shape with random weights takes its place.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

ROOT = Path(__file__).resolve().parents[1]
MINUTES = 9.5
TEST_SHARE = 0.45
"""Of the time, at most for the tests."""
SIDES = ("field", "ours")
TINY_STEPS, TINY_ROUNDS, TINY_MINUTES = 3, 3, 20.0
"""A toy model on a CPU tries the program: two minutes of a processor, on a busy machine longer."""
MODELS: dict[str, tuple[str, ...]] = {
    "minilm": ("lora", "full"),
    "bert-base": ("lora", "full"),
    "llama-1b": ("lora",),
}
"""Each with the methods that are measured on it."""
TINY: dict[str, tuple[str, ...]] = {"tiny": ("lora",), "llama-tiny": ("lora",)}


class Clock:
    """The seconds that are left."""

    def __init__(self, minutes: float) -> None:
        self.ends = time.monotonic() + 60 * minutes

    def left(self) -> float:
        """Seconds, 1 at least, as a limit for a process."""
        return max(1.0, self.ends - time.monotonic())


def run_tests(options: argparse.Namespace, clock: Clock) -> dict[str, Any]:
    """The tests marked gpu: how many ended how, what failed with its last line, and seconds."""
    report, begun = options.out / "tests.xml", time.monotonic()
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu", f"--junit-xml={report}"]
    command += ["--gpu-device", options.device, *(["--gpu-tiny"] if options.tiny else [])]
    limit, stopped = clock.left() * TEST_SHARE, ""
    command += ["-p", "no:cacheprovider", "-p", "no:xdist", f"--gpu-seconds={limit}"]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=limit + 60, check=False
        )
        if not report.is_file():
            stopped = (done.stdout + done.stderr)[-2000:]
    except subprocess.TimeoutExpired as error:
        output: Any = error.stdout or b""
        text = output if isinstance(output, str) else output.decode(errors="replace")
        stopped = f"stopped after {limit:.0f} s\n{text[-2000:]}"
    cases = list(ET.parse(report).iter("testcase")) if report.is_file() else []  # noqa: S314
    outcomes, failed = Counter[str](), []
    for case in cases:
        problem = next((c for c in case if c.tag in ("failure", "error")), None)
        skipped = case.find("skipped")
        outcome = "failed" if problem is not None else "passed"
        if skipped is not None:
            outcome = f"skipped ({skipped.get('message')})"
        outcomes[outcome] += 1
        if problem is not None:
            name = f"{case.get('classname')}::{case.get('name')}"
            failed.append({"test": name, "message": (problem.get("message") or "")[:500]})
    seconds = time.monotonic() - begun
    return {"outcomes": outcomes, "failed": failed, "stopped": stopped, "seconds": seconds}


def work_of(options: argparse.Namespace) -> Any:
    """The model and task of a case; a decoder reads no types of tokens."""
    from workload import Work

    method_options = {"rank": 8} if options.method == "lora" else {}
    work = Work(options.model, options.folder, options.task, options.batch, method_options)
    config = json.loads((work.source.folder / "config.json").read_text(encoding="utf-8"))
    if config["model_type"] != "bert":
        from dataclasses import replace

        # A cached property of a frozen value: what it would compute is put in its place.
        work.__dict__["encoded"] = replace(work.encoded, type_ids=None)
    return work


def make_side(name: str, options: argparse.Namespace, work: Any) -> Callable[[int], None]:
    """A function that makes a training step of a side; the step's number chooses the batch."""
    from sides import Field, Variant, side
    from workload import grouped_by_length

    batches = grouped_by_length(work.encoded.lengths, work.shape.batch, 16)
    variant = Variant(name, name != "field", 0.1, options.precision)
    own = side(work, options.method, variant, device=options.device)
    if isinstance(own, Field):
        if own.model.config.pad_token_id is None:
            own.model.config.pad_token_id = 0
        if options.model.startswith("llama"):  # as peft's examples hold a decoder
            for parameter in own.model.parameters():
                if not parameter.requires_grad and options.precision == "bf16":
                    parameter.data = parameter.data.bfloat16()

    def step(number: int) -> None:
        own.step(batches[number % len(batches)], number)

    return step


def measure_steps(options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of a step, both sides in turn in this process; and their ratio."""
    import torch
    from turns import in_turn, quartiles, ratio

    if options.device == "cpu":
        torch.set_num_threads(1)
    else:
        torch.use_deterministic_algorithms(True, warn_only=True)  # as workers do
    work = work_of(options)
    steps = {name: make_side(name, options, work) for name in SIDES}

    def several(step: Callable[[int], None]) -> Callable[[], object]:
        return lambda: list(map(step, range(options.steps)))

    seconds = in_turn({name: several(step) for name, step in steps.items()}, options.rounds)
    each = {name: [s / options.steps for s in rounds] for name, rounds in seconds.items()}
    return {
        "ms": {name: [1e3 * s for s in quartiles(own)] for name, own in each.items()},
        "ratio": {name: ratio(each["field"], own) for name, own in each.items() if name != "field"},
        "rounds": options.rounds,
        "steps": options.steps,
    }


def measure_memory(options: argparse.Namespace) -> dict[str, Any]:
    """Peaks by phase of one side, in this fresh process: opening, then steps on long batches."""
    import peft  # noqa: F401  (both sides hold the same libraries)

    from paretune.measuring.memory import PeakMeter, warm_libraries

    warm_libraries(options.device, bf16=options.precision == "bf16")
    meter = PeakMeter(options.device)
    meter.baseline()
    with meter.phase("load"):
        step = make_side(options.side, options, work_of(options))
    with meter.phase("train"):
        for number in range(options.steps):
            step(number)
    return meter.result()


def in_process(
    part: str, case: dict[str, Any], options: argparse.Namespace, clock: Clock
) -> dict[str, Any]:
    """A measurement in a process of its own; ``failed`` has the end of what it printed."""
    shared = {name: getattr(options, name) for name in ("device", "tiny", "steps", "rounds")}
    from turns import ProcessError, in_fresh_process

    begun = time.monotonic()
    try:
        settings = {**case, **shared, "part": part}
        measured = in_fresh_process(__file__, settings, timeout=clock.left())
    except ProcessError as error:
        return {**case, "failed": str(error)}
    return {**case, **measured, "process_seconds": round(time.monotonic() - begun, 1)}


def cases(options: argparse.Namespace, place: Path) -> list[dict[str, Any]]:
    """Every model, written where it is not at hand, with its methods and precisions."""
    import shapes
    import torch
    from workload import PACKAGES

    listed = []
    for model, methods in (TINY if options.tiny else MODELS).items():
        decoder = model.startswith("llama")
        name = PACKAGES.get(model, "")
        if not name or importlib.util.find_spec(name.partition(":")[2]) is None:
            shape = "minilm-shape" if model == "minilm" else model
            dtype = torch.bfloat16 if decoder else torch.float32
            name = str(shapes.write_shape(shape, place / model, dtype))
        for method in methods:
            for precision in ("bf16",) if decoder or options.tiny else ("bf16", "fp32"):
                listed.append(
                    {
                        "model": model, "folder": name, "method": method, "task": "rte",
                        "batch": 4 if decoder or options.tiny else 16, "precision": precision,
                    }
                )  # fmt: skip
    return listed


def describe(options: argparse.Namespace) -> dict[str, Any]:
    """The machine, its devices, and the versions; not in the process that starts the others, since
    a GPU in exclusive mode has one process at a time.
    """
    from turns import about

    from paretune.measuring.machine import describe_machine

    machine = describe_machine()
    return {**about(device=options.device, tiny=options.tiny), "machine": machine}


def main() -> None:
    """Run all parts, or one in this process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "gpu")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="one toy model, few tests")
    parser.add_argument("--minutes", type=float, help=f"{MINUTES}, with --tiny {TINY_MINUTES}")
    parser.add_argument("--steps", type=int, help="of a round; 10, with --tiny 3")
    parser.add_argument("--rounds", type=int, help="5, with --tiny 3")
    parser.add_argument(
        "--at-once",
        type=int,
        default=max(1, min(4, (os.cpu_count() or 1) // 4)),
        help="processes that measure memory at the same time, each its own; 1 where a GPU is in "
        "exclusive mode; default: one for every four cores, 4 at most",
    )
    parser.add_argument("--alone", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.steps = options.steps or (TINY_STEPS if options.tiny else 10)
    options.minutes = options.minutes or (TINY_MINUTES if options.tiny else MINUTES)
    options.rounds = options.rounds or (TINY_ROUNDS if options.tiny else 5)
    if options.alone:
        vars(options).update(options.alone)
        parts = {"describe": describe, "steps": measure_steps, "memory": measure_memory}
        print(json.dumps(parts[options.part](options)))
        return
    sys.exit(run_all(options))


def run_all(options: argparse.Namespace) -> int:
    """All parts, one after another; 1 where a test or a measurement failed."""
    import gpu_page
    from turns import save

    from paretune.measuring.devices import resolve_device

    resolve_device(options.device)
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    clock = Clock(options.minutes)
    results = in_process("describe", {"tiny": options.tiny}, options, clock)
    if "failed" in results:
        raise SystemExit(results["failed"])
    files = (options.out / "gpu.json", options.out / "gpu.html")

    def keep() -> None:
        save(results, str(files[0]))
        files[1].write_text(gpu_page.render(results), encoding="utf-8")

    results["tests"] = run_tests(options, clock)
    keep()
    with tempfile.TemporaryDirectory(prefix="paretune-gpu-") as place:
        listed = cases(options, Path(place))
        results["steps"] = []
        for case in listed:  # one after the other, with nothing beside them
            results["steps"].append(in_process("steps", case, options, clock))
            keep()
        sides = [{**case, "side": side} for case in listed for side in SIDES]
        with ThreadPoolExecutor(options.at_once) as pool:
            memory = pool.map(lambda one: in_process("memory", one, options, clock), sides)
            results["memory"] = list(memory)
        keep()
    results["seconds"] = round(60 * options.minutes - clock.left())
    keep()
    print("\n".join(gpu_page.summarise(results)))
    print(f"{files[0]}\n{files[1]}")
    measured: Sequence[dict[str, Any]] = (*results["steps"], *results["memory"])
    tests = results["tests"]
    return int(bool(tests["failed"] or tests["stopped"] or any("failed" in m for m in measured)))


if __name__ == "__main__":
    main()
