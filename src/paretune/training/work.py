"""How much a run will do and hold, from the model's shape and the texts' lengths.

Operations: 2 N T for the forward pass of T tokens through N backbone parameters, 2 N T for the
gradient to the inputs, and 2 N T for the gradient to the weights where they are trained (Kaplan et
al. 2020, arXiv:2001.08361, section 2.1). Bytes: weights; gradients and AdamW's two moments of what
is trained, and outside the cost probe the best weights so far; what a layer keeps for each token
until the backward pass, attention and, of a translation, the scores of all words beside.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from paretune.analysis.forecast import Work
from paretune.models.load import Loaded
from paretune.study import Run

COPIES = {"frozen": 16, "full": 20}
"""Values of the layer's width that a layer keeps for each token until the backward pass."""


@dataclass(frozen=True)
class Shape:
    """A model before a method is inside; ``vocabulary`` is 0 where no words are chosen."""

    weights_bytes: int
    parameters: int
    width: int
    layers: int
    heads: int
    vocabulary: int


def shape_of(loaded: Loaded) -> Shape:
    """The shape of a model as it was loaded; ``parameters`` without its table of words."""
    model, width = loaded.model, loaded.anatomy.width
    numbers = sum(p.numel() for p in model.parameters())
    table = model.get_input_embeddings().weight.numel()
    heads = getattr(model.config, "num_attention_heads", None) or max(1, width // 64)
    return Shape(
        weights_bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
        parameters=int(numbers - table),
        width=width,
        layers=len(loaded.anatomy.layers),
        heads=int(heads),
        vocabulary=0 if loaded.direction is None else int(model.config.vocab_size),
    )


def work(run: Run, shape: Shape, trained: int, lengths: Sequence[int], choices: int) -> Work:
    """Of one run.

    Args:
        run: its method, batch, precision and stage count.
        shape: of its model.
        trained: numbers that training moves, head included.
        lengths: tokens of the training texts' longest choices, cut; of a translation both texts.
        choices: texts of one example.
    """
    batch = min(run.training.batch_size, len(lengths))
    longest = sorted(lengths)[-batch:]
    mean = statistics.mean(longest if run.stage == "cost" else lengths)
    passes = {"full": 6.0, "head_only": 2.0}.get(run.method.name, 4.0)
    copies = 3 if run.stage == "cost" else 4
    rows = min(run.training.micro_batch or batch, batch)
    return Work(
        operations=passes * shape.parameters * mean * choices * batch,
        held_bytes=shape.weights_bytes + 4 * copies * trained,
        saved_bytes=_saved(run, shape, longest[-1], rows * choices),
    )


def _saved(run: Run, shape: Shape, longest: int, rows: int) -> int:
    tokens = longest * rows
    width = COPIES["full" if run.method.name == "full" else "frozen"] * shape.width
    # Of a frozen backbone below a head nothing is kept but what one layer computes with.
    kept = 1 if run.method.name == "head_only" else shape.layers
    value = 2 if run.training.precision == "bf16" else 4
    layers = kept * tokens * (width + 2 * shape.heads * longest)
    # About half of a translation's tokens are chosen among all words: scores and their gradient.
    return int(value * layers + 4 * tokens * shape.vocabulary)
