"""Writes the data of labelled-rows.yaml into ``data`` beside it, from copies of their sources.

    python examples/labelled_rows.py TWEETEVAL OOS_EVAL CHARCNN_KERAS SIB200

The first three are copies of github.com/cardiffnlp/tweeteval, clinc/oos-eval and
mhjabreel/CharCnn_Keras, the last is the folder ``data/eng_Latn`` of the data set Davlan/sib200 on
the hub. Equal rows are written once, in an order that is drawn once.
"""

from __future__ import annotations

import csv
import json
import random
import sys
from collections.abc import Iterable
from pathlib import Path

Rows = Iterable[tuple[str, str]]
"""Labels with texts."""


def main(tweeteval: Path, oos_eval: Path, charcnn: Path, sib200: Path, out: Path) -> None:
    """Write six files of rows."""
    out.mkdir(parents=True, exist_ok=True)
    tweets = tweeteval / "datasets"
    write_rows(out / "emotion.csv", read_tweets(tweets / "emotion", "train"))
    write_rows(out / "sentiment.csv", read_tweets(tweets / "sentiment", "val"))
    names = {"0": "sincere", "1": "irony"}
    write_rows(out / "irony.csv", read_tweets(tweets / "irony", "train", names))
    write_rows(out / "clinc.csv", read_questions(oos_eval / "data"))
    write_rows(out / "ag_news.csv", read_news(charcnn / "data" / "ag_news_csv"))
    join_parts(sib200, out / "sib200" / "eng_Latn" / "all.tsv")


def read_tweets(folder: Path, part: str, names: dict[str, str] | None = None) -> Rows:
    """The tweets of one part, with the names of their labels."""
    if names is None:
        lines = (folder / "mapping.txt").read_text(encoding="utf-8").splitlines()
        names = dict(line.split("\t") for line in lines if line.strip())
    labels = (folder / f"{part}_labels.txt").read_text(encoding="utf-8").splitlines()
    texts = (folder / f"{part}_text.txt").read_text(encoding="utf-8").splitlines()
    labels = [label.strip() for label in labels if label.strip()]
    return [(names[label], text) for label, text in zip(labels, texts, strict=True)]


def read_questions(folder: Path) -> Rows:
    """The questions of all intents, with the domain of each."""
    by_domain = json.loads((folder / "domains.json").read_text(encoding="utf-8"))
    domains = {intent: domain for domain, intents in by_domain.items() for intent in intents}
    questions = json.loads((folder / "data_full.json").read_text(encoding="utf-8"))["train"]
    return [(domains[intent], text) for text, intent in questions]


def read_news(folder: Path) -> Rows:
    """Titles with descriptions."""
    names = (folder / "classes.txt").read_text(encoding="utf-8").splitlines()
    rows = csv.reader((folder / "test.csv").read_text(encoding="utf-8").splitlines())
    return [(names[int(label) - 1], f"{title}. {text}") for label, title, text in rows]


def write_rows(path: Path, rows: Rows) -> None:
    """Write different rows in a drawn order."""
    different = list(dict.fromkeys((label, " ".join(text.split())) for label, text in rows))
    random.Random(0).shuffle(different)  # noqa: S311 (the same order every time, no secret)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("label", "text"), *different])


def join_parts(folder: Path, path: Path) -> None:
    """Join the published parts into one file."""
    first, *rest = ((folder / f"{part}.tsv").read_text(encoding="utf-8") for part in PARTS)
    rows = [first.rstrip("\n"), *(text.partition("\n")[2].rstrip("\n") for text in rest)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


PARTS = ("train", "dev", "test")


if __name__ == "__main__":
    folders = [Path(word) for word in sys.argv[1:]]
    main(folders[0], folders[1], folders[2], folders[3], Path(__file__).parent / "data")
