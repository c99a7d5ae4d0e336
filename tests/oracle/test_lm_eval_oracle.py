"""Label words beside lm-evaluation-harness's own scores (bench/oracles/lm_eval_oracle.py)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from paretune import objectives, tasks
from paretune.models.pass_context import PassContext
from paretune.objectives.example import Example
from paretune.objectives.readouts import for_readout
from paretune.training.evaluation.predict import evaluate
from paretune.training.forward.passes import Compute, PlainForward, PlainSplitter

KEPT = json.loads((Path(__file__).parent / "lm_eval.json").read_text(encoding="utf-8"))
NAMES = {
    "boolq": ("boolq", "en"),
    "cb": ("cb", "en"),
    "sglue_rte": ("rte", "en"),
    "copa": ("copa", "en"),
    "mrpc": ("paraphrase", "en"),
    "sl_boolq": ("boolq", "sl"),
}
"""Of the harness's tasks: ours, and its language."""
NORMALISED = {"acc": "none", "acc_norm": "characters", "acc_bytes": "bytes"}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    backend = Tokenizer.from_str(json.dumps(KEPT["tokenizer"]))
    fast = PreTrainedTokenizerFast(tokenizer_object=backend)
    fast.bos_token, fast.eos_token, fast.pad_token = "<bos>", "<eos>", "<eos>"
    return fast


@pytest.fixture(scope="module")
def forward(tokenizer: Any) -> PlainForward:
    """The model of the oracle: weights are sines."""
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **KEPT["config"]))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            places = torch.arange(parameter.numel(), dtype=torch.float64)
            values = torch.sin(places * (number + 1)).mul(0.2).view_as(parameter)
            parameter.copy_(values + 1 if parameter.ndim == 1 else values)
    compute = Compute("cpu", "fp32")
    return PlainForward(model.eval(), PassContext(), compute, pad_id=1, splitter=PlainSplitter())


def read_examples(name: str) -> list[Example]:
    """The rows as our task makes examples of them."""
    own, language = NAMES[name]
    template = tasks.get(own).templates["pair"]
    examples = []
    for i, item in enumerate(KEPT["tasks"][name]):
        row = {key: str(value) for key, value in item["row"].items()}
        if name == "sl_boolq":  # our release writes the question mark, its prompt adds it
            row["question"] += "?"
        examples.append(Example(f"{i}", template(row, language), int(row["label"]), f"row {i}"))
    return examples


def score(name: str, normalisation: Any, tokenizer: Any, forward: PlainForward) -> Iterator[Any]:
    """Scores of the answers of each row, (answers,)."""
    own, language = NAMES[name]
    task = tasks.get(own)
    prompt = replace(task.prompts[language], length_normalisation=normalisation)
    objective = for_readout(objectives.get(task.kind), "label_words", prompt)
    data = objective.encode(read_examples(name), tokenizer, 512, "")
    assert not any(data.truncated)
    yield from evaluate(forward, data, objective.collector)


def test_there_are_fifty_rows_with_answers_of_one_token_and_of_several(tokenizer: Any) -> None:
    items = [item for own in KEPT["tasks"].values() for item in own]
    assert len(items) == 50
    lengths = {
        len(tokenizer(text, add_special_tokens=False)["input_ids"])
        for item in items
        for _, text in item["texts"]
    }
    assert 1 in lengths and max(lengths) > 3


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_the_harnesss(name: str) -> None:
    own, language = NAMES[name]
    prompt = tasks.get(own).prompts[language]
    for example, item in zip(read_examples(name), KEPT["tasks"][name], strict=True):
        context = prompt.render(*example.segments[0])
        if own == "copa":
            context = prompt.render(example.segments[0][0], None)
        answers = [prompt.delimiter + answer for answer in prompt.answers(example)]
        assert [[context, answer] for answer in answers] == item["texts"]


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_the_harnesss(name: str, tokenizer: Any, forward: PlainForward) -> None:
    scores = list(score(name, "none", tokenizer, forward))
    for own, item in zip(scores, KEPT["tasks"][name], strict=True):
        np.testing.assert_allclose(own, item["log_likelihoods"], rtol=1e-5, atol=1e-4)


# The harness counts the blank that the choices of COPA begin with, which is our delimiter.
@pytest.mark.parametrize(
    ("name", "metric"),
    [(name, m) for name in NAMES for m in NORMALISED if m == "acc" or name != "copa"],
)
def test_answers_are_right_where_the_harnesss_are(
    name: str, metric: str, tokenizer: Any, forward: PlainForward
) -> None:
    scores = score(name, NORMALISED[metric], tokenizer, forward)
    for own, item in zip(scores, KEPT["tasks"][name], strict=True):
        assert (int(np.argmax(own)) == item["row"]["label"]) == item["right"][metric]
