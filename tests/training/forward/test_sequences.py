"""Texts that begin alike: what they have in common is read once, and changes no score."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paretune.models.load import load_model
from paretune.models.packing.layout import Packing
from paretune.objectives.encoding import Encoded
from paretune.objectives.objective import HeadSpec
from paretune.objectives.readouts.label_words import LabelWordsCollector
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.training.caches import ProcessCache
from paretune.training.evaluation.predict import evaluate
from paretune.training.forward import packed
from paretune.training.forward.passes import Compute
from paretune.training.forward.select import enable_packing, forward_for
from paretune.training.prepare import prepare


def answers_of(examples: int, shots: int = 40, seed: int = 1) -> Encoded:
    """Three answers of one to four tokens behind a question each, all behind the same shots."""
    draw = random.Random(seed)  # noqa: S311 (a toy's words, no secret)

    def text(length: int) -> list[int]:
        return [draw.randrange(10, 250) for _ in range(length)]

    front = text(shots)
    questions = [front + text(draw.randint(3, 25)) for _ in range(examples)]
    # The second answer begins as the first does.
    choices = [[own[:2], own[:1] + text(3), text(1)] for own in (text(2) for _ in questions)]
    ids = [
        [question + answer for answer in own]
        for question, own in zip(questions, choices, strict=True)
    ]
    return Encoded(
        ids=ids,
        type_ids=None,
        lengths=[max(map(len, own)) for own in ids],
        labels=[0] * examples,
        truncated=[False] * examples,
        completion_starts=[[len(question)] * 3 for question in questions],
    )


@pytest.mark.parametrize(
    ("family", "method"),
    [
        ("llama", "lora"),
        ("gemma3", "prefix"),  # in one of its two layers tokens see 15 before them
        ("qwen3", "prompt"),
        ("opt", "ia3"),
        ("gemma2", "lora"),
        ("opt", "prompt"),
        ("gpt2", "prefix"),
    ],
)
def test_scores_are_those_of_each_text_alone(
    family: str, method: str, tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(tiny_task(tmp_path, "pair"), tiny_model(family), method)
    loaded = load_model(ProcessCache().source(run.model), HeadSpec("causal_lm", "causal lm", 0))
    prepared = prepare(run, loaded)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in prepared.injection.parameters.values():
            parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.2)
    assert enable_packing(prepared)
    read: list[int] = []
    column = packed._to_column

    def count(values: list[list[int]], device: str) -> torch.Tensor:
        read.append(sum(map(len, values)))
        return column(values, device)

    monkeypatch.setattr(packed, "_to_column", count)
    data = answers_of(9)

    def score() -> np.ndarray[Any, Any]:
        forward = forward_for(loaded, prepared.context, Compute())
        scores: np.ndarray[Any, Any] = evaluate(forward, data, LabelWordsCollector)
        return scores

    shared, rows = score(), sum(read)
    monkeypatch.setattr(packed, "LEAST_SAVED", 2.0)
    assert prepared.context.packing is not None
    prepared.context.packing.prefixes.clear()
    read.clear()
    np.testing.assert_allclose(score(), shared, rtol=0, atol=2e-4)
    if (family, method) == ("opt", "prompt"):  # its text may keep its positions in a table
        assert rows == sum(read)
    else:
        assert rows < 0.4 * sum(read)
    prepared.undo()


def test_what_is_common_is_counted_once() -> None:
    data, packing = answers_of(5), Packing(virtual_tokens=2)
    prefixes = packed.find_prefixes(data, packing)
    assert prefixes is not None and prefixes.of_all == 40
    for own, common, starts in zip(
        data.ids, prefixes.of_example, data.completion_starts or [], strict=True
    ):
        assert common == starts[0]  # the third answer begins otherwise
        assert len({tuple(text[:common]) for text in own}) == 1
    (tree,) = packed.plant_trees(data, range(5), prefixes, packing)
    assert len(tree.tokens) == 2 + 40 + sum(prefixes.rest)
    for (example, choice), rows in tree.scored.items():
        text = data.ids[example][choice]
        # The row before each scored token has the token that stands before it, at its place.
        before = [text[place - 1] for place in data.scored_places((example, choice))]
        assert [tree.tokens[row] for row in rows] == before
        assert [int(tree.tree.depths[row]) - 2 for row in rows] == [
            place - 1 for place in data.scored_places((example, choice))
        ]


def test_texts_with_little_in_common_are_read_apart() -> None:
    data = answers_of(1, shots=0)
    alone = Encoded(
        ids=[own[:1] for own in answers_of(6, shots=1).ids],
        type_ids=None,
        lengths=[30] * 6,
        labels=[0] * 6,
        truncated=[False] * 6,
        completion_starts=[[3]] * 6,
    )
    assert packed.find_prefixes(alone, Packing()) is None
    assert packed.find_prefixes(data, Packing()) is not None
    assert packed.find_prefixes(data, Packing(shares_prefixes=False)) is None
