"""Scoring answers by their words: what texts have in common read once, or with every text.

Both sides score the same rows by the same model in turn, in one process, packed, in evaluation
mode. Rows are random words: a question of so many tokens, answers of one to four, and in front of
all of them the tokens of so many solved examples.

    python bench/shared_prefixes.py --model DECODER
    python bench/shared_prefixes.py --model DECODER --question 60 --answers 2 --rows 40 --rounds 5

A ratio above 1: sharing is so many times as fast, in seconds of the processor. Scores differ by
rounding; the largest difference is printed.
"""

from __future__ import annotations

import argparse
import os
import random
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from turns import format_quartiles, ratio

from paretune.methods.core.run_axis import Fleet
from paretune.models.load import load_model
from paretune.models.packing.apply import apply_packing
from paretune.models.packing.state import Packing
from paretune.models.sources.resolve import resolve_source
from paretune.objectives.encoding import Encoded
from paretune.objectives.readouts.label_words import LabelWordsCollector
from paretune.objectives.values import HeadSpec
from paretune.study import ModelSpec
from paretune.training.evaluation.predict import evaluate_alone
from paretune.training.forward.select import forward_for
from paretune.training.runs.run_config import Compute


def make_rows(options: argparse.Namespace, shots: int, words: int) -> Encoded:
    """Questions behind so many solved examples of their own length, with answers."""
    draw = random.Random(1)  # noqa: S311 (random words, no secret)

    def text(length: int) -> list[int]:
        return [draw.randrange(100, words) for _ in range(length)]

    front = text(shots * (options.question + 3))
    questions = [
        front + text(max(1, int(options.question * draw.uniform(0.6, 1.4))))
        for _ in range(options.rows)
    ]
    ids = [[own + text(1 + n % 4) for n in range(options.answers)] for own in questions]
    return Encoded(
        ids=ids,
        type_ids=None,
        lengths=[max(map(len, own)) for own in ids],
        labels=[0] * len(ids),
        truncated=[False] * len(ids),
        completion_starts=[[len(own)] * options.answers for own in questions],
    )


def main() -> None:
    """Print a line for each number of solved examples."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument(
        "--question", type=int, default=100, help="tokens of a question, on average"
    )
    parser.add_argument("--answers", type=int, default=3)
    parser.add_argument("--shots", default="0,4")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    source = resolve_source(ModelSpec(name=options.model))
    loaded = load_model(source, HeadSpec("causal_lm", "causal lm", 0), bf16=True)
    fleet = Fleet()
    fleet.packing = Packing()
    apply_packing(loaded.model, loaded.anatomy, fleet.packing)
    forward = forward_for(loaded, fleet, Compute("cpu", "bf16"))
    for shots in map(int, options.shots.split(",")):
        data = make_rows(options, shots, loaded.model.config.vocab_size)
        seconds: dict[bool, list[float]] = {True: [], False: []}
        scores = {}
        for number in range(options.rounds + 1):
            for shares in (True, False) if number % 2 else (False, True):
                fleet.packing.shares_prefixes = shares
                begun = time.process_time()
                scores[shares] = evaluate_alone(forward, data, LabelWordsCollector)
                if number:  # the first round warms up every shape
                    seconds[shares].append(time.process_time() - begun)
        apart = float(np.abs(scores[True] - scores[False]).max() / np.abs(scores[False]).mean())
        each, shared = (float(np.median(seconds[shares])) for shares in (False, True))
        print(
            f"{shots} solved examples: {format_quartiles(ratio(seconds[False], seconds[True]))} "
            f"times as fast ({each:.2f} s with every text, {shared:.2f} s shared); scores differ "
            f"by {apart:.1e} of their mean at most"
        )


if __name__ == "__main__":
    main()
