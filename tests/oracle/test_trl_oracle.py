"""Completions beside what TRL's SFTTrainer made of the same rows (bench/oracles/trl_oracle.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from paretune import objectives
from paretune.data.example import Example
from paretune.data.instructions import find_form
from paretune.data.prompt import Prompt
from paretune.methods.core.run_axis import Fleet
from paretune.objectives import LossOptions
from paretune.objectives.encoding import IGNORE_INDEX, pad_batch
from paretune.objectives.readouts import for_readout
from paretune.training.forward.passes import Compute, MicroBatch, PlainForward, PlainSplitter

INSTRUCTION = for_readout(objectives.get("instruction"), "text", Prompt(delimiter=""))
KEPT = json.loads((Path(__file__).parent / "trl.json").read_text(encoding="utf-8"))


@pytest.fixture
def tokenizer() -> Any:
    backend = Tokenizer.from_str(json.dumps(KEPT["tokenizer"]))
    fast = PreTrainedTokenizerFast(tokenizer_object=backend)
    fast.eos_token, fast.pad_token = "<|im_end|>", "<|endoftext|>"
    fast.chat_template = KEPT["template"]
    return fast


def read_examples(rows: list[dict[str, Any]]) -> list[Example]:
    form = find_form(rows[0])
    assert form is not None
    read = map(form.read, rows)
    return [
        Example(f"row {i}", ((prompt, None),), None, f"row {i}", target=target, messages=messages)
        for i, (prompt, target, messages) in enumerate(read)
    ]


def make_model(vocabulary: int) -> LlamaForCausalLM:
    """As bench/oracles/trl_oracle.py makes it: weights are sines."""
    model = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **KEPT["config"]))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            places = torch.arange(parameter.numel(), dtype=torch.float64)
            values = torch.sin(places * (number + 1)).mul(0.2).view_as(parameter)
            parameter.copy_(values + 1 if parameter.ndim == 1 else values)
    return model.eval()


@pytest.mark.parametrize("kind", ["plain", "conversational", "all_answers"])
def test_tokens_and_loss_are_trls(kind: str, tokenizer: Any) -> None:
    kept, objective = KEPT[kind], INSTRUCTION
    if kind == "all_answers":  # TRL's assistant_only_loss
        tokenizer.chat_template = KEPT["marked_template"]
        prompt = Prompt(delimiter="", learns_every_answer=True)
        objective = for_readout(objectives.get("instruction"), "text", prompt)
    examples = read_examples(kept["rows"])
    data = objective.encoder("train")(examples, tokenizer, 256, "")
    batch = pad_batch(data, range(len(examples)), tokenizer.pad_token_id)
    for row, expected in enumerate(kept["encoded"]):
        length = len(expected["ids"])
        assert batch["input_ids"][row, :length].tolist() == expected["ids"]
        assert batch["labels"][row, :length].tolist() == expected["labels"]
        assert (batch["labels"][row, length:] == IGNORE_INDEX).all()
    model = make_model(len(tokenizer))
    forward = PlainForward(model, Fleet(), Compute("cpu", "fp32"), 0, PlainSplitter())
    indices = list(range(len(examples)))
    with torch.no_grad():
        (outputs,) = forward([MicroBatch(data, indices)])
        loss = objective.loss(outputs, data, indices, LossOptions())
    mean = float(loss) / objective.weight(data, indices)
    assert mean == pytest.approx(kept["loss"], rel=1e-5)
