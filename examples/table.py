"""Writes the two tables of table.yaml beside it, from data that scikit-learn brings along."""

from __future__ import annotations

import csv
import random
from pathlib import Path

from sklearn.datasets import load_diabetes, load_wine


def main(folder: Path) -> None:
    """``diabetes-train.csv`` and ``-test.csv`` (a number), ``wine-...`` (one of three growers)."""
    diabetes, wine = load_diabetes(scaled=False), load_wine()
    growers = ["first", "second", "third"]
    tables = {
        "diabetes": (diabetes.feature_names, diabetes.data, "progression", diabetes.target),
        "wine": (wine.feature_names, wine.data, "grower", [growers[i] for i in wine.target]),
    }
    for name, (columns, rows, label, labels) in tables.items():
        table = [[*(f"{v:g}" for v in row), y] for row, y in zip(rows, labels, strict=True)]
        random.Random(0).shuffle(table)  # noqa: S311 (the same order every time, no secret)
        cut = len(table) // 4
        for part, held in (("test", table[:cut]), ("train", table[cut:])):
            with (folder / f"{name}-{part}.csv").open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([[*columns, label], *held])


if __name__ == "__main__":
    main(Path(__file__).parent)
