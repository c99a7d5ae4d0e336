"""Losses of completions are those that ``transformers`` computes, and of prompts there are none."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from paretune.models.pass_context import PassContext
from paretune.objectives.encoding import IGNORE_INDEX, Encoded
from paretune.objectives.language_modelling import TokenLossCollector
from paretune.training.forward.passes import Compute, MicroBatch, PlainForward, PlainSplitter

PROMPT, LONG, SHORT = [5, 6, 7, 8], [9, 10, 11], [12]


def encode(*choices: tuple[list[int], list[int]]) -> Encoded:
    """One example, with a prompt and a completion for each choice."""
    ids = [prompt + completion for prompt, completion in choices]
    return Encoded(
        ids=[ids],
        type_ids=None,
        lengths=[max(map(len, ids))],
        labels=[0],
        truncated=[False],
        completion_starts=[[len(prompt) for prompt, _ in choices]],
    )


def tiny_decoder() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).eval()


def test_loss_of_completions_is_that_of_each_text_alone() -> None:
    model, data = tiny_decoder(), encode((PROMPT, LONG), (PROMPT, SHORT))
    forward = PlainForward(model, PassContext(), Compute("cpu", "fp32"), 0, PlainSplitter())
    outputs = forward(MicroBatch(data, [0]))
    assert outputs.texts == [(0, 0), (0, 1)]
    alone = []
    for completion in (LONG, SHORT):
        ids = torch.tensor([PROMPT + completion])
        labels = torch.tensor([[IGNORE_INDEX] * len(PROMPT) + completion])
        alone.append(model(input_ids=ids, labels=labels).loss.item() * len(completion))
    assert outputs.summed_loss(0.0).item() == pytest.approx(sum(alone), rel=1e-5)
    total, each = outputs.evaluation_losses()
    assert float(total) == pytest.approx(sum(alone), rel=1e-5)
    assert each[: len(LONG)].sum().item() == pytest.approx(alone[0], rel=1e-5)


def test_collected_losses_of_completions_are_by_example() -> None:
    first, second = encode((PROMPT, LONG)), encode((PROMPT, SHORT))
    data = Encoded(
        ids=first.ids + second.ids,
        type_ids=None,
        lengths=first.lengths + second.lengths,
        labels=[0, 0],
        truncated=[False, False],
        completion_starts=[[len(PROMPT)], [len(PROMPT)]],
    )
    forward = PlainForward(
        tiny_decoder(), PassContext(), Compute("cpu", "fp32"), 0, PlainSplitter()
    )
    collector = TokenLossCollector(data)
    with torch.no_grad():
        collector.add([1, 0], forward(MicroBatch(data, [1, 0])))
    assert [len(tokens) for tokens in collector.result().tokens] == [len(LONG), len(SHORT)]
