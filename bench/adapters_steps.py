"""Steps of the `adapters` library, which has an environment of its own, beside paretune's.

`adapters` pins an older transformers, so it trains in a process of another interpreter
(bench/oracles/README.md says how to make that environment), in turn with paretune, on the same
examples, from the same weights and head:

    python bench/adapters_steps.py --python oracle-env/bin/python
    python bench/adapters_steps.py --python oracle-env/bin/python --methods lora,pfeiffer --json F

A ratio is told where both train equally many numbers and their losses before the first step are
within 1e-5 (prefixes are drawn at random and cannot start alike: of them the number alone is
compared). That both compute the same is what tests/oracle/test_adapters_oracle.py shows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from sides import RATE, VARIANTS, Ours
from steps import quiet
from turns import about, format_quartiles, in_turn, quartiles, ratio, save
from workload import Work, grouped_by_length, model_folder

from paretune.measuring.auto_precision import is_bf16_fast
from paretune.models.dropout.rates import set_dropout
from paretune.models.load import reset_head
from paretune.training.forward.micro_batch import MicroBatch, StepBatch
from paretune.training.loop import compute_losses

METHODS = ("lora", "ia3", "pfeiffer", "houlsby", "parallel", "prefix")
SIDE = Path(__file__).parent / "oracles" / "adapters_side.py"


class Other:
    """The process of the other environment."""

    def __init__(self, python: str, request: dict[str, Any], folder: Path) -> None:
        file = folder / "asked.json"
        file.write_text(json.dumps(request), encoding="utf-8")
        self.process = subprocess.Popen(
            [python, str(SIDE), str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        )
        self.hello = self.hear()

    def hear(self) -> Any:
        """The next answer."""
        assert self.process.stdout is not None and self.process.stderr is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the other side has ended:\n{self.process.stderr.read()[-2000:]}")
        return json.loads(line)

    def turn(self) -> float:
        """All batches once; seconds by its own clock."""
        assert self.process.stdin is not None
        print(file=self.process.stdin, flush=True)
        return float(self.hear())

    def end(self) -> None:
        """Let the process go."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


def loss_of(side: Ours, batch: list[int]) -> float:
    """The mean loss of a batch before anything is trained, without dropout."""
    side.forward.model.eval()
    with torch.no_grad():
        step = StepBatch(side.data, batch, 0, side.config)
        losses = compute_losses([step], [MicroBatch(side.data, batch)], side.forward)
    side.forward.model.train()
    return float(losses[0])


def measure(work: Work, method: str, variant: str, options: argparse.Namespace) -> dict[str, Any]:
    """One method, with or without dropout."""
    batches = grouped_by_length(work.encoded.lengths, work.shape.batch, options.batches)
    own = Ours(work, method, VARIANTS[variant], RATE, 1)
    data, loaded = work.encoded, work.fresh()
    reset_head(loaded, 1)
    set_dropout(loaded.model, 0.0)
    with tempfile.TemporaryDirectory(prefix="paretune-bench-") as place:
        loaded.model.save_pretrained(place)
        other = Other(
            options.python,
            {
                "folder": place,
                "method": method,
                "head": sorted(loaded.head_parameters),
                "dropout": VARIANTS[variant].dropout,
                "precision": VARIANTS[variant].precision,
                "rate": RATE,
                "threads": options.threads,
                "batches": [
                    {
                        "ids": [data.ids[i][0] for i in batch],
                        "types": [data.type_ids[i][0] for i in batch],  # type: ignore[index]
                        "labels": [data.labels[i] for i in batch],
                    }
                    for batch in batches
                ],
            },
            Path(place),
        )
        apart = np.abs(np.array(other.hello["losses"]) - [loss_of(own, b) for b in batches]).max()
        case: dict[str, Any] = {
            "model": work.model, "task": work.task, "method": method, "variant": variant,
            "trained": {"adapters": other.hello["trained"], "paretune": own.trained},
            "apart": float(apart), "versions": other.hello["versions"],
        }  # fmt: skip
        alike = other.hello["trained"] == own.trained and (method == "prefix" or apart < 1e-5)
        if alike:
            clock: list[float] = []

            def ours() -> None:
                for number, batch in enumerate(batches):
                    own.step(batch, number)

            in_own = in_turn(
                {"adapters": lambda: clock.append(other.turn()), "paretune": ours}, options.rounds
            )
            seconds = {"adapters": clock[1:], "paretune": in_own["paretune"]}
            examples = sum(len(batch) for batch in batches)
            case["examples_per_second"] = {
                name: quartiles([examples / s for s in rounds_seconds])
                for name, rounds_seconds in seconds.items()
            }
            case["ratio"] = ratio(seconds["adapters"], seconds["paretune"])
        other.end()
    return case


def tables(case: dict[str, Any]) -> Iterator[str]:
    """What was found, as text."""
    yield f"\n{case['model']}, {case['task']}, {case['method']}, {VARIANTS[case['variant']].title}"
    both = " and ".join(f"{count:,}" for count in case["trained"].values())
    yield f"  trained: {both}; losses {case['apart']:.1e} apart"
    if "ratio" not in case:
        yield "  no ratio: the sides do not train the same thing"
        return
    for name, value in case["examples_per_second"].items():
        yield f"  {name:<10}{format_quartiles(value, 1)} examples/s"
    yield f"  adapters / paretune: {format_quartiles(case['ratio'])}"


def main(arguments: list[str] | None = None) -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", required=True, help="interpreter of an environment that has it")
    parser.add_argument("--model", default="minilm", help="minilm, e5-small, bert-base, a folder")
    parser.add_argument("--task", default="cb", help="boolq, rte, cb; comma-separated")
    parser.add_argument("--methods", default=",".join(METHODS), help="comma-separated")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--batch", type=int, help="examples in a batch; the task's own by default")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(arguments)
    if not Path(options.python).is_file():
        sys.exit(f"{options.python} is not there; bench/oracles/README.md says how to make it.")
    quiet()
    torch.set_num_threads(options.threads)
    results = about(
        threads=options.threads, rounds=options.rounds, batches=options.batches, cases=[]
    )
    variants = ("ours", "ours-nd") if is_bf16_fast()[0] else ("ours-fp32", "ours-nd-fp32")
    with model_folder(options.model) as folder:
        for task in options.task.split(","):
            for method in options.methods.split(","):
                for variant in variants:
                    work = Work(options.model, folder, task, options.batch)
                    results["cases"].append(measure(work, method, variant, options))
                    print("\n".join(tables(results["cases"][-1])), flush=True)
                    save(results, options.json)


if __name__ == "__main__":
    main()
