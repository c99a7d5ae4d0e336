"""What must hold before speeds may be compared: both sides train the same thing.

Twenty steps without dropout, from the same weights, on the same batches. In fp32 the losses of
`transformers` + `peft` and of paretune are within 1e-5. In bf16 paretune's losses are no farther
from the fp32 curve than those of the plain loop in autocast, by the farther of its two attentions
(SDPA and plain). How far a curve in bf16 runs from fp32 is itself chance (rounding, twenty steps;
now and then a start runs off), so the median of several starts counts, and paretune fails where it
is farther by more than :data:`CHANCE`. Each precision has a clause of its own: what is not timed in
bf16 is not asked about it.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sides import VARIANTS, Variant, side
from workload import Work

from paretune import methods

STEPS = 20
WITHIN = 1e-5
"""Largest distance of two losses in fp32."""
CHANCE = 1.25
"""Two such distances of equally exact sides differ by chance by less than this factor."""

FIELD, EAGER, OURS = VARIANTS["b-nd"], VARIANTS["b-nd-eager"], VARIANTS["ours-nd"]


def gate(
    work: Work,
    method: str,
    *,
    batch: int = 4,
    starts: int = 5,
    precisions: Sequence[str] = ("fp32", "bf16"),
) -> dict[str, Any]:
    """Each clause is asked of the precision it is about: ``passed``, and what says so.

    Args:
        work: model and task.
        method: what is trained, at the middle one of its own learning rates.
        batch: examples in a step.
        starts: seeds, each with its own head, method weights and batches; the first is also
            trained in fp32 by paretune.
        precisions: in which paretune is to be timed; bf16 is only looked at where it is one.
    """
    value: Any = methods.get(method)
    rate = float(value.learning_rates[len(value.learning_rates) // 2])
    theirs, plain, ours = list[Any](), list[Any](), list[Any]()
    work = replace(work, batch=batch)
    halves = "bf16" in precisions
    for seed in range(1, (starts if halves else 1) + 1):
        drawn = np.random.default_rng(seed)
        batches = [
            [int(i) for i in drawn.choice(len(work.encoded.labels), batch, replace=False)]
            for _ in range(STEPS)
        ]
        exact = curve(work, method, FIELD._replace(precision="fp32"), batches, rate, seed)
        if seed == 1:
            fp32 = curve(work, method, OURS._replace(precision="fp32"), batches, rate, seed)
            apart = float(np.abs(fp32 - exact).max())
        for variant, kept in ((FIELD, theirs), (EAGER, plain), (OURS, ours)):
            if halves:
                kept.append(curve(work, method, variant, batches, rate, seed) - exact)
    case: dict[str, Any] = {
        "passed": {"fp32": apart <= WITHIN},
        "fp32_apart": apart,
        "steps": STEPS,
        "batch": batch,
        "starts": starts,
        "learning_rate": rate,
    }
    if halves:
        sdpa, eager, our = (
            float(np.median(np.sqrt(np.mean(np.square(kept), axis=1))))
            for kept in (theirs, plain, ours)
        )
        their = max(sdpa, eager)
        # What is wrong in fp32 is wrong.
        case["passed"]["bf16"] = apart <= WITHIN and our <= CHANCE * their
        case["bf16_from_fp32"] = {"field": their, "paretune": our}
    return case


def curve(
    work: Work,
    method: str,
    variant: Variant,
    batches: list[list[int]],
    rate: float,
    seed: int,
) -> np.ndarray[Any, Any]:
    """The losses of a fresh side."""
    gc.collect()
    trained_side = side(work, method, variant, rate, seed)
    return np.array([trained_side.step(batch, number) for number, batch in enumerate(batches)])


def format_case(case: dict[str, Any]) -> str:
    """One line."""
    ends = {name: "passed" if ok else "FAILED" for name, ok in case["passed"].items()}
    line = f"gate in fp32 {ends['fp32']}: losses {case['fp32_apart']:.1e} apart"
    if "bf16_from_fp32" in case:
        apart = case["bf16_from_fp32"]
        line += (
            f"; in bf16 {ends['bf16']}: from fp32 paretune {apart['paretune']:.1e}, "
            f"autocast {apart['field']:.1e}"
        )
    return line
