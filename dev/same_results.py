"""Digests of a fixed study's runs, to compare two versions of the code on one machine.

    python dev/same_results.py > before.txt      # with the older code installed
    python dev/same_results.py > after.txt       # with the newer
    diff before.txt after.txt

A small study (two tasks, two tiny random encoders, seven methods, fp32 and bf16) is trained through
the command line, with tiny models and data that this script makes. One line for each run: its id,
and a digest of all of its result that no clock, no meter and no machine writes: scores, curve,
predictions. Runs that end in the same lines are the same to the bit.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WORDS = [f"w{i}" for i in range(200)]
METHODS = "full, lora, loha, prompt, prefix, houlsby, head_only"
STUDY = """
study: same-results
tasks:
  - {{name: topics, kind: classification, train: topics-train.csv, test: topics-test.csv,
      text: text, label: label}}
  - {{name: pairs, kind: pair, train: pairs-train.csv, test: pairs-test.csv,
      text: first, text_pair: second, label: label}}
models:
  - {{name: ./bert, label: bert}}
  - {{name: ./roberta, label: roberta}}
methods: [{methods}]
protocol: {{trials: 1, folds: 1, seeds: [1, 2], cost_seconds: 0.1}}
training: {{batch_size: 8, epochs: 2, max_length: 32, precision: {precision}}}
"""
MEASURED = {"measured", "environment", "seconds", "conditions", "machine", "timing"}
"""Keys of a result that a clock, a meter or the machine writes."""


def write_models(folder: Path) -> None:
    """Two tiny encoders with random weights and a word-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        BertConfig,
        BertForMaskedLM,
        PreTrainedTokenizerFast,
        RobertaConfig,
        RobertaForMaskedLM,
    )

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: i for i, word in enumerate(special + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",  # noqa: S106
        unk_token="[UNK]",  # noqa: S106
        cls_token="[CLS]",  # noqa: S106
        sep_token="[SEP]",  # noqa: S106
        model_max_length=64,
    )
    sizes = {
        "vocab_size": len(vocabulary),
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "pad_token_id": 0,
    }
    torch.manual_seed(1)
    for name, config, model in (
        ("bert", BertConfig(**sizes, max_position_embeddings=64), BertForMaskedLM),
        (
            "roberta",
            RobertaConfig(**sizes, max_position_embeddings=70, type_vocab_size=2),
            RobertaForMaskedLM,
        ),
    ):
        model(config).save_pretrained(folder / name)
        fast.save_pretrained(folder / name)


def write_data(folder: Path) -> None:
    """Texts whose label is a word that stands in them, and pairs that share a word or do not."""
    draw = random.Random(0)  # noqa: S311
    for part, rows in (("train", 64), ("test", 40)):
        topics, pairs = ["text,label"], ["first,second,label"]
        for i in range(rows):
            text = draw.sample(WORDS, draw.randint(4, 20))
            text[0] = WORDS[i % 3]
            topics.append(f"{' '.join(text)},label{i % 3}")
            other = draw.sample(WORDS, draw.randint(4, 12))
            same = i % 2
            other[1] = text[1] if same else WORDS[(WORDS.index(text[1]) + 7) % 200]
            pairs.append(f"{' '.join(text)},{' '.join(other)},{'same' if same else 'other'}")
        (folder / f"topics-{part}.csv").write_text("\n".join(topics) + "\n")
        (folder / f"pairs-{part}.csv").write_text("\n".join(pairs) + "\n")


def strip_measured(value: Any) -> Any:
    """``value`` without what is measured."""
    if isinstance(value, dict):
        return {
            k: strip_measured(v)
            for k, v in value.items()
            if k not in MEASURED and not k.endswith(("_seconds", "_bytes"))
        }
    if isinstance(value, list):
        return [strip_measured(v) for v in value]
    return value


def read_digests(store: Path) -> list[str]:
    """A line for each run, by id."""
    database = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
    rows = database.execute(
        "SELECT run_id, state, result FROM runs WHERE stage <> 'cost' ORDER BY run_id"
    ).fetchall()
    lines = []
    for run_id, state, result in rows:
        compared = strip_measured(json.loads(result)) if result else None
        text = json.dumps(compared, sort_keys=True)
        lines.append(f"{run_id} {state} {hashlib.sha256(text.encode()).hexdigest()[:16]}")
    return lines


def train(study: Path, store: Path, environment: dict[str, str]) -> None:
    """Run a study until nothing is left but its costs, which are other numbers each time."""
    command = [sys.executable, "-m", "paretune", "run", str(study), "--workers", "2"]
    command += ["--store", str(store), "--no-report"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603
    while process.poll() is None and not is_trained(store):
        time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    if process.wait() not in (0, 130) or not is_trained(store):
        sys.exit(f"the run of {study.name} ended with {process.returncode}")


def is_trained(store: Path) -> bool:
    """Whether every run that is no cost has ended."""
    database = store / "study.db"
    if not database.exists():
        return False
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened:
        try:
            counts = opened.execute(
                "SELECT count(*), sum(state IN ('done', 'failed')) FROM runs WHERE stage <> 'cost'"
            ).fetchone()
        except sqlite3.OperationalError:  # the tables are not there yet
            return False
    return bool(0 < counts[0] == counts[1])


def main() -> None:
    """Train, and print the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precisions", default="fp32,bf16")
    parser.add_argument("--keys", action="store_true", help="show the keys that are compared")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_models(folder)
        write_data(folder)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PARETUNE_HOME": str(folder / "home")}
        for precision in options.precisions.split(","):
            study, store = folder / f"{precision}.yaml", folder / precision
            study.write_text(STUDY.format(methods=METHODS, precision=precision))
            train(study, store, environment)
            (database,) = store.rglob("study.db")
            print(*(f"{precision} {line}" for line in read_digests(database)), sep="\n")
            if options.keys:
                row = sqlite3.connect(database).execute("SELECT result FROM runs").fetchone()
                print(json.dumps(strip_measured(json.loads(row[0])), indent=1)[:3000])


if __name__ == "__main__":
    main()
