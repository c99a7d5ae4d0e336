"""Decoders as they are loaded: their heads, the token that a head reads, and Conv1D layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from paretune.models.load import (
    LoadedModel,
    load_model,
    reset_head,
    to_conv1d_layers,
    to_linear_layers,
)
from paretune.models.sources.resolve import resolve_source
from paretune.models.structure.heads import last_token_places
from paretune.objectives.encoding import encode_texts, pad_batch
from paretune.objectives.example import Example
from paretune.objectives.objective import HeadSpec
from paretune.study import ModelSpec
from paretune.testing.tiny_models import DECODERS, SENTENCES

THREE = HeadSpec(
    "sequence_classification", "toy", 3, ("a", "b", "c"), "single_label_classification"
)


def example(text: str, second: str | None = None) -> Example:
    return Example("0", ((text, second),), 0, "row 0")


def load(folder: Path, head: HeadSpec = THREE, **options: Any) -> LoadedModel:
    source = resolve_source(ModelSpec(name=str(folder)), offline=True)
    loaded = load_model(source, head, **options)
    if options.get("weights", True):
        reset_head(loaded, 3)
    return loaded


@pytest.mark.parametrize("family", DECODERS)
def test_the_classifier_alone_is_new(tiny_model: Any, family: str) -> None:
    loaded = load(tiny_model(family))
    assert loaded.head_parameters == ("score.weight",)
    assert loaded.notes == ()
    outline = load(tiny_model(family), weights=False)
    assert outline.anatomy == loaded.anatomy
    assert outline.head_parameters == loaded.head_parameters
    assert outline.transposed == loaded.transposed


@pytest.mark.parametrize("family", DECODERS)
def test_a_language_model_has_its_own_head(tiny_model: Any, family: str) -> None:
    loaded = load(tiny_model(family), HeadSpec("causal_lm", "instruction"))
    assert loaded.head_parameters == ()
    plain = AutoModelForCausalLM.from_pretrained(tiny_model(family)).eval()
    ids = loaded.tokenizer([SENTENCES[1]], return_tensors="pt")
    with torch.no_grad():
        logits, expected = loaded.model(**ids).logits, plain(**ids).logits
    assert torch.allclose(logits, expected, atol=1e-5)


def padded(loaded: LoadedModel, texts: list[list[int]], side: str) -> dict[str, torch.Tensor]:
    pad, longest = loaded.tokenizer.pad_token_id, max(map(len, texts))
    rows, masks = [], []
    for text in texts:
        fill = longest - len(text)
        row, mask = [pad] * fill, [0] * fill
        rows.append(text + row if side == "right" else row + text)
        masks.append([1] * len(text) + mask if side == "right" else mask + [1] * len(text))
    return {"input_ids": torch.tensor(rows), "attention_mask": torch.tensor(masks)}


@pytest.mark.parametrize("family", DECODERS)
def test_logits_do_not_depend_on_padding(tiny_model: Any, family: str) -> None:
    """Padded left, right, or not at all; also of texts that end in the padding token."""
    loaded = load(tiny_model(family))
    texts = [list(ids) for ids in loaded.tokenizer(list(SENTENCES[:4]))["input_ids"]]
    texts[1] = [*texts[1][:5], loaded.tokenizer.pad_token_id]
    texts[2] = [loaded.tokenizer.pad_token_id] * 3
    with torch.no_grad():
        alone = torch.cat([loaded.model(torch.tensor([text])).logits for text in texts])
        for side in ("left", "right"):
            inputs = padded(loaded, texts, side)
            if side == "left":  # as generation does; rotary positions do not need it
                places = inputs["attention_mask"].cumsum(-1) - 1
                inputs["position_ids"] = places.clamp(min=0)
            logits = loaded.model(**inputs).logits
            assert torch.allclose(logits, alone, atol=2e-5), side


@pytest.mark.parametrize("family", ["llama", "gemma3", "opt", "gpt2"])
def test_it_is_the_token_that_transformers_reads_where_that_is_right(
    tiny_model: Any, family: str
) -> None:
    loaded = load(tiny_model(family))
    plain = AutoModelForSequenceClassification.from_pretrained(
        tiny_model(family), num_labels=3, pad_token_id=loaded.tokenizer.pad_token_id
    ).eval()
    plain.score.weight.data = loaded.model.score.weight.data
    inputs = padded(loaded, loaded.tokenizer(list(SENTENCES[:4]))["input_ids"], "right")
    with torch.no_grad():
        logits, expected = loaded.model(**inputs).logits, plain(**inputs).logits
    assert torch.allclose(logits, expected, atol=1e-5)


def test_the_last_token_that_the_mask_counts() -> None:
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 1, 0]])
    assert last_token_places(mask, torch.zeros(4, 4, 2)).tolist() == [3, 1, 3, 2]
    # Two virtual tokens in front of each.
    assert last_token_places(mask, torch.zeros(4, 6, 2)).tolist() == [5, 3, 5, 4]
    assert last_token_places(None, torch.zeros(2, 6, 2)).tolist() == [5, 5]


def test_choices_are_read_one_by_one(tiny_model: Any) -> None:
    loaded = load(tiny_model("qwen3"), HeadSpec("multiple_choice", "toy", 1))
    assert loaded.model.score.out_features == 1
    ids = padded(loaded, loaded.tokenizer(list(SENTENCES[:4]))["input_ids"], "right")
    with torch.no_grad():
        alone = loaded.model(**ids).logits
        both = loaded.model(**{name: x.view(2, 2, -1) for name, x in ids.items()}).logits
    assert both.shape == (2, 2)
    assert torch.allclose(both.flatten(), alone.flatten(), atol=1e-6)


def test_an_empty_text_is_the_token_that_ends_one(tiny_model: Any, tmp_path: Path) -> None:
    """GPT-2's tokenizer makes no token of it, and a head would have none to read."""
    loaded = load(tiny_model("gpt2"))
    examples = [example(text) for text in ("", "dog")]
    data = encode_texts(examples, loaded.tokenizer, 64)
    assert data.ids[0] == [[loaded.tokenizer.eos_token_id]] and data.lengths[0] == 1
    batch = pad_batch(data, [0, 1], loaded.pad_id)
    inputs = {name: torch.from_numpy(values) for name, values in batch.items()}
    with torch.no_grad():
        logits = loaded.model(**inputs).logits[:1]
        alone = loaded.model(torch.tensor(data.ids[0])).logits
    assert torch.allclose(logits, alone, atol=1e-6)


@pytest.mark.parametrize("family", DECODERS)
def test_two_texts_are_told_apart(tiny_model: Any, family: str) -> None:
    """Decoders' tokenizers put nothing between them: a line break is put there."""
    tokenizer = load(tiny_model(family), weights=False).tokenizer
    pair = encode_texts([example("The dog", "slept")], tokenizer, 64).ids[0][0]
    assert pair == tokenizer("The dog\nslept")["input_ids"]


def test_what_ends_a_text_pads_where_nothing_else_does(tiny_model: Any) -> None:
    loaded = load(tiny_model("gpt2"))
    assert AutoTokenizer.from_pretrained(tiny_model("gpt2")).pad_token is None
    assert loaded.tokenizer.pad_token == loaded.tokenizer.eos_token
    assert loaded.model.config.pad_token_id == loaded.anatomy.pad_id == 0
    own = load(tiny_model("gemma3"))
    assert own.tokenizer.pad_token != own.tokenizer.eos_token


def test_conv1d_layers_are_linear_and_back(tiny_model: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model("gpt2")).eval()
    before = {name: p.clone() for name, p in model.named_parameters()}
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        expected = model(ids).logits
        names = to_linear_layers(model)
        assert len(names) == 8
        assert all(type(model.get_submodule(name)) is torch.nn.Linear for name in names)
        assert torch.allclose(model(ids).logits, expected, atol=1e-6)
        to_conv1d_layers(model, names)
        assert torch.equal(model(ids).logits, expected)
    after = dict(model.named_parameters())
    assert {*after} == {*before}
    assert all(torch.equal(after[name], p) for name, p in before.items())
    assert load(tiny_model("gpt2")).transposed == names
