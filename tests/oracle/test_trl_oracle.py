"""Completions and preferences beside what TRL's trainers made of the same rows
(bench/oracles/trl_oracle.py).
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from paretune import objectives
from paretune.data.instructions import PREFERENCE_FORMS, find_form
from paretune.models.pass_context import PassContext
from paretune.objectives import LossOptions
from paretune.objectives.encoding import IGNORE_INDEX, Encoded, pad_batch
from paretune.objectives.example import Example
from paretune.objectives.prompt import Prompt
from paretune.objectives.readouts import for_readout
from paretune.objectives.readouts.label_words import LabelWordsCollector
from paretune.training.evaluation.predict import evaluate
from paretune.training.forward.passes import (
    Compute,
    MicroBatch,
    PlainForward,
    PlainSplitter,
    StepBatch,
)
from paretune.training.loop import accumulate_gradients

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
    return [
        Example(**{"uid": f"row {i}", "where": f"row {i}", "label": None, **form.read(row)})
        for i, row in enumerate(rows)
    ]


def make_model(vocabulary: int, scale: float = 0.2) -> LlamaForCausalLM:
    """As bench/oracles/trl_oracle.py makes it: weights are sines."""
    model = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **KEPT["config"]))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            places = torch.arange(parameter.numel(), dtype=torch.float64)
            values = torch.sin(places * (number + 1)).mul(scale).view_as(parameter)
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
    forward = PlainForward(model, PassContext(), Compute("cpu", "fp32"), 0, PlainSplitter())
    indices = list(range(len(examples)))
    with torch.no_grad():
        outputs = forward(MicroBatch(data, indices))
        loss = objective.loss(outputs, data, indices, LossOptions())
    mean = float(loss) / objective.weight(data, indices)
    assert mean == pytest.approx(kept["loss"], rel=1e-5)


def add_reference(data: Encoded, forward: PlainForward, beta: float) -> Encoded:
    rows = evaluate(forward, data, LabelWordsCollector)
    divisors = np.full(rows.shape, 1 / beta)
    return replace(data, reference=rows.tolist(), divisors=divisors.tolist())


def test_losses_and_gradients_of_preferences_are_trls(tokenizer: Any) -> None:
    """Also where a step is split: the mean over mismatched answers is that of the whole batch."""
    for case in KEPT["preferences"]:
        kind = "unpaired_preference" if "label" in case["rows"][0] else "preference"
        options, read = case["options"], PREFERENCE_FORMS[kind].read
        examples = [
            Example(uid=f"row {i}", where="here", **read(row)) for i, row in enumerate(case["rows"])
        ]
        objective = for_readout(objectives.get(kind), "reward", Prompt(delimiter=""))
        data = objective.encoder("train")(examples, tokenizer, 256, "")
        model, base = (make_model(len(tokenizer), s) for s in (0.2, KEPT["reference_scale"]))
        forward, before = (
            PlainForward(m, PassContext(), Compute("cpu", "fp32"), 0, PlainSplitter())
            for m in (model, base)
        )
        mismatched, beta = data.mismatched, options.get("beta", 0.1)
        weights = [(options.get(f"{name}_weight", 1.0),) for name in ("undesirable", "desirable")]
        batch = StepBatch(
            data=replace(
                add_reference(data, before, beta),
                mismatched=mismatched and add_reference(mismatched, before, beta),
            ),
            indices=range(len(examples)),
            objective=objective,
            loss_options=LossOptions(class_weights=(weights[0], weights[1])),
            micro_batch=2,
        )
        losses = accumulate_gradients(batch, forward)
        assert float(losses.sum()) == pytest.approx(case["loss"], rel=1e-5)
        for name, parameter in model.named_parameters():  # gradients along a sine
            sines = torch.arange(parameter.numel(), dtype=torch.float64).sin()
            slope = float(parameter.grad.double().flatten() @ sines)  # type: ignore[union-attr]
            assert slope == pytest.approx(case["slopes"][name], rel=1e-5, abs=1e-5)
