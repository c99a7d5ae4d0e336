"""Everything that is drawn from a seed or must be the same bytes again, as digests: a script.

``tests/test_hash_seeds.py`` runs it in processes with different ``PYTHONHASHSEED``, so that an
order that comes from a set of texts, or a hash in a seed, shows.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from safetensors.torch import load as safetensors

sys.path.insert(0, str(Path(__file__).parents[1]))

from paretune.analysis.cells import group_into_cells
from paretune.analysis.pareto.costs import CostEstimate
from paretune.analysis.pareto.expected_scores import expected_scores
from paretune.analysis.pareto.front import pareto_front
from paretune.analysis.statistics.intervals import score_interval
from paretune.data.batch import shuffle_order
from paretune.data.split import assign_folds, sample_held_out, take_whole_groups
from paretune.objectives.example import Example
from paretune.reporting import write_json
from paretune.reporting.build import build_report
from paretune.reporting.figure_files import write_figures
from paretune.reporting.page import write_page
from paretune.study import derive_seed
from paretune.testing.tiny_models import tiny_model
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.training.trainer import train_run
from support import fake_records as fake


def main(folder: Path) -> None:
    """Print a digest of each value as JSON."""
    examples = [
        Example(f"train:{i}", ((f"Text {i % 90}.", None),), i % 3, f"t line {i}", f"g{i // 4}")
        for i in range(100)
    ]
    predictions = [fake.answers(0.7, n=200, seed=seed) for seed in range(3)]
    study = fake.study()
    cells = [c for c in group_into_cells(study, fake.whole(study)) if c.task == study.tasks[0].key]
    expected = {method: score for (_, method), score in expected_scores(cells).items()}
    costs = {name: CostEstimate(float(i)) for i, name in enumerate(expected)}
    report = build_report(study, fake.whole(study))
    small = fake.study(tasks=[fake.own_task("t")], methods=["lora"])
    figures = write_figures(
        build_report(small, fake.cell(small, "lora", 0.7)),
        folder / "figures",
        formats=("png", "svg"),
    )
    run = tiny_run(tiny_task(folder / "data"), tiny_model("bert", folder / "bert"))
    outcome = train_run(run, checkpoint=folder / "state")
    weights = safetensors(outcome.blobs["weights"])
    values = {
        "result": dict(outcome.result),
        "predictions": bytes(outcome.blobs["predictions"]).hex(),
        "weights": {name: weights[name].tolist() for name in sorted(weights)},
        "run ids": [record.run_id for record in fake.whole(study)],
        "seed": derive_seed(1, "order", 2),
        "order": shuffle_order(50, 1, 0),
        "folds": assign_folds(examples, seed=4),
        "held out": sorted(sample_held_out(examples, 20, 1)),
        "whole groups": [e.uid for e in take_whole_groups(examples, 30)[0]],
        "interval": repr(score_interval(predictions, "macro_f1")),
        "front": repr(pareto_front(expected, costs)),
        "page": write_page(report, folder / "page.html").read_text(encoding="utf-8"),
        "json": write_json(report, folder / "study.json").read_text(encoding="ascii"),
        "figures": [path.read_bytes().hex() for path in figures],
    }
    digests = {
        name: hashlib.sha256(json.dumps(value).encode()).hexdigest()
        for name, value in values.items()
    }
    print(json.dumps(digests))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
