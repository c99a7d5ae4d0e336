"""Timing in turn, ratios of rounds, the machine's peak, and what was measured on what."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F

from paretune.measuring.machine import find_version
from paretune.measuring.memory import can_reset_high_water, read_status_bytes, release_memory
from paretune.measuring.processor import describe_processor, read_memory

Key = TypeVar("Key")
Answer = TypeVar("Answer")
PRODUCT_TOKENS = 512
"""Rows of the product whose speed is called the machine's peak."""


def in_rounds(sides: Mapping[Key, Callable[[], Answer]], rounds: int) -> dict[Key, list[Answer]]:
    """What every side returns in every round.

    The side that begins changes from round to round, so that a slow moment meets all alike.
    """
    answers: dict[Key, list[Answer]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            answers[name].append(sides[name]())
    return answers


def in_turn(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every side in every round, after one round that warms up every shape."""

    def time_side(side: Callable[[], object]) -> float:
        begun = time.perf_counter()
        side()
        return time.perf_counter() - begun

    timed = {name: partial(time_side, side) for name, side in sides.items()}
    return {name: seconds[1:] for name, seconds in in_rounds(timed, rounds + 1).items()}


def in_fresh_process(
    script: str,
    settings: Mapping[str, Any],
    *,
    python: str = sys.executable,
    timeout: float | None = None,
) -> dict[str, Any]:
    """What ``script --alone SETTINGS`` prints in its last line: a measurement in its own process.

    Args:
        script: path of a benchmark.
        settings: for it, as JSON; ``threads`` is the number of threads of OpenMP too.

    Raises:
        ProcessError: it failed, or the time was up; with the end of what it printed.
    """
    threads = str(settings.get("threads", ""))
    environment = {**os.environ, **({"OMP_NUM_THREADS": threads} if threads else {})}
    command = [python, script, "--alone", json.dumps(settings)]
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise ProcessError("the time was up") from None
    if ended.returncode:
        raise ProcessError(ended.stderr[-2000:])
    answer: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return answer


class ProcessError(SystemExit):
    """A measurement in its own process failed."""


def reset_high_water() -> int:
    """Begin a new peak of this process (VmHWM); bytes that it holds now.

    Raises:
        SystemExit: the system has no such counter: Linux has.
    """
    if not can_reset_high_water():
        raise SystemExit("this system has no high-water mark (VmHWM): Linux has")
    release_memory()
    Path("/proc/self/clear_refs").write_text("5")
    return read_status_bytes("VmRSS")


def quartiles(values: Sequence[float]) -> list[float]:
    """Median, first and third quartile."""
    low, middle, high = (float(v) for v in np.quantile(np.asarray(values), (0.25, 0.5, 0.75)))
    return [middle, low, high]


def ratio(slow: Sequence[float], fast: Sequence[float]) -> list[float]:
    """Median and quartiles of the ratios of rounds: how many times as fast the second is."""
    return quartiles([a / b for a, b in zip(slow, fast, strict=True)])


def format_quartiles(value: Sequence[float], digits: int = 2) -> str:
    """``1.52 [1.36, 1.65]``."""
    middle, low, high = (f"{v:.{digits}f}" for v in value)
    return f"{middle} [{low}, {high}]"


def peak_rates(widths: Sequence[int] = (384, 768), seconds: float = 0.3) -> dict[str, float]:
    """FLOP a second of the fastest product of 512 tokens with a frozen layer, fp32 and bf16."""
    best = {}
    generator = torch.Generator().manual_seed(0)
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        rates = []
        for width in widths:
            for inner, outer in ((width, width), (width, 4 * width), (4 * width, width)):
                x = torch.randn(PRODUCT_TOKENS, inner, generator=generator).to(dtype)
                weight = torch.randn(outer, inner, generator=generator).to(dtype)
                took = _fastest(partial(F.linear, x, weight), seconds / (3 * len(widths)))
                rates.append(2 * PRODUCT_TOKENS * inner * outer / took)
        best[name] = max(rates)
    return best


@torch.inference_mode()
def _fastest(work: Callable[[], object], seconds: float) -> float:
    work()
    took: list[float] = []
    ends = time.perf_counter() + seconds
    while len(took) < 5 or time.perf_counter() < ends:
        begun = time.perf_counter()
        work()
        took.append(time.perf_counter() - begun)
    return min(took)


def about(**settings: Any) -> dict[str, Any]:
    """Machine, date, versions, and the settings of a benchmark."""
    features = describe_processor()
    return {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "processor": features["name"],
        "cores": features["usable_cores"],
        "flags": features["flags"],
        "memory_bytes": read_memory()["limit"] or read_memory()["total"],
        "python": platform.python_version(),
        "versions": {n: find_version(n) for n in ("paretune", "torch", "transformers", "peft")},
        **settings,
    }


def save(results: Mapping[str, Any], file: str | None) -> None:
    """Write what was found, if a file is named."""
    if file is not None:
        path = Path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
