"""The anatomy of every family of decoders, found by structure, with a classifier and with an LM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
)

from paretune.errors import ModelError
from paretune.models.load import to_linear_layers
from paretune.models.structure.anatomy import find_target_modules, read_anatomy
from paretune.models.structure.layers import FusedOutput
from paretune.models.structure.topology import DECODER
from paretune.testing.tiny_models import DECODERS, POSITIONS

KINDS = {
    "classification": AutoModelForSequenceClassification,
    "causal_lm": AutoModelForCausalLM,
}
# Written down by hand from the architectures: what structure must find without these names.
LAYERS = {"opt": "model.decoder.layers", "gpt2": "transformer.h", "gpt_neox": "gpt_neox.layers"}
FUSED = {
    "phi3": ("self_attn.qkv_proj", FusedOutput(32, 16)),
    "gpt2": ("attn.c_attn", FusedOutput(32, 32)),
    "gpt_neox": ("attention.query_key_value", FusedOutput(8, 8, blocks=4)),
}
OUTPUT = {"opt": "self_attn.out_proj", "gpt2": "attn.c_proj", "gpt_neox": "attention.dense"}
FEED_FORWARD = {
    "opt": (("fc1",), "fc2"),
    "phi3": (("mlp.gate_up_proj",), "mlp.down_proj"),
    "gpt2": (("mlp.c_fc",), "mlp.c_proj"),
    "gpt_neox": (("mlp.dense_h_to_4h",), "mlp.dense_4h_to_h"),
}
GATED = (("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj")
READERS = {"gpt2": "transformer", "gpt_neox": "gpt_neox"}
POSITION_TABLES = {"opt": "model.decoder.embed_positions", "gpt2": "transformer.wpe"}


def outline(folder: Path, kind: str) -> Any:
    with torch.device("meta"):
        model = KINDS[kind].from_config(AutoConfig.from_pretrained(folder))
    to_linear_layers(model)
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", DECODERS)
def test_every_family_is_understood(tiny_model: Any, family: str, kind: str) -> None:
    model = outline(tiny_model(family), kind)
    anatomy = read_anatomy(model)
    assert anatomy.topology is DECODER
    assert len(anatomy.layers) == 2
    for i, layer in enumerate(anatomy.layers):
        inside = f"{LAYERS.get(family, 'model.layers')}.{i}."
        attention = layer.self_attention
        fused, output = FUSED.get(family, (None, None))
        names = [f"self_attn.{role}_proj" for role in "qkv"] if fused is None else [fused] * 3
        assert [attention.query, attention.key, attention.value] == [inside + n for n in names]
        assert attention.fused_output == output
        assert attention.output == inside + OUTPUT.get(family, "self_attn.o_proj")
        ups, down = FEED_FORWARD.get(family, GATED)
        assert layer.up == tuple(inside + up for up in ups)
        assert layer.down == inside + down
        assert (layer.stack, layer.cross_attention, layer.output_norm) == ("decoder", None, None)
    assert anatomy.head_modules == (("score",) if kind == "classification" else ())
    assert anatomy.width == anatomy.embedding_width == 32
    assert model.get_submodule(anatomy.word_embeddings) is model.get_input_embeddings()
    assert anatomy.max_length == POSITIONS
    assert anatomy.position_embeddings == POSITION_TABLES.get(family)
    assert anatomy.encoder == READERS.get(family, "model")
    assert anatomy.text_reader == ("model.decoder" if family == "opt" else anatomy.encoder)
    assert anatomy.source_readers == () and anatomy.stacks == (anatomy.layers,)
    assert {*anatomy.linear_layers} == {*find_target_modules(anatomy, ["all_linear"])}
    words = 0 if kind == "classification" else model.config.vocab_size
    assert anatomy.topology.scored_vocabulary(model) == words


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", DECODERS)
def test_a_model_with_weights_has_the_anatomy_of_its_outline(
    tiny_model: Any, family: str, kind: str
) -> None:
    real = KINDS[kind].from_pretrained(tiny_model(family))
    to_linear_layers(real)
    assert read_anatomy(real) == read_anatomy(outline(tiny_model(family), kind))


@pytest.mark.parametrize("family", DECODERS)
def test_max_length_is_the_longest_text_that_runs(tiny_model: Any, family: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model(family)).eval()
    with torch.no_grad():
        assert model(input_ids=torch.full((1, POSITIONS), 7)).logits.isfinite().all()
        if family in POSITION_TABLES:
            with pytest.raises((IndexError, RuntimeError)):
                model(input_ids=torch.full((1, POSITIONS + 1), 7))


@pytest.mark.parametrize("tied", [True, False])
def test_an_lm_head_is_no_new_head_tied_or_not(tiny_model: Any, tied: bool) -> None:
    config = AutoConfig.from_pretrained(tiny_model("llama"), tie_word_embeddings=tied)
    model = AutoModelForCausalLM.from_config(config)
    anatomy = read_anatomy(model)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    assert anatomy.head_modules == ()
    assert "lm_head" not in anatomy.linear_layers


def test_a_config_that_says_use_cache_false_is_read_on_meta_too(tiny_model: Any) -> None:
    config = AutoConfig.from_pretrained(tiny_model("qwen3"), use_cache=False)
    with torch.device("meta"):
        assert len(read_anatomy(AutoModelForCausalLM.from_config(config)).layers) == 2


def test_a_fused_projection_makes_keys_and_values_where_it_says() -> None:
    """Query, key and value of 2 channels each in two blocks; and of 4, 1 and 1 in one."""
    assert FusedOutput(1, 1, blocks=2).keys_and_values == (1, 2, 4, 5)
    assert FusedOutput(4, 1).keys_and_values == (4, 5)


@pytest.mark.parametrize("family", FUSED)
def test_keys_and_values_of_a_fused_projection_are_those_of_the_attention(
    tiny_model: Any, family: str
) -> None:
    """What is 0 in the channels of keys and values is 0 in those that attention is given."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model(family), attn_implementation="eager")
    to_linear_layers(model)
    attention = read_anatomy(model).layers[0].self_attention
    assert attention.fused_output is not None
    channels = list(attention.fused_output.keys_and_values)

    def erase(module: Any, args: Any, out: torch.Tensor) -> torch.Tensor:
        return out.index_fill(-1, torch.tensor(channels), 0)

    inputs: list[torch.Tensor] = []

    def look(module: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        inputs.extend((query, key, value))
        return value.transpose(1, 2).repeat(1, 1, query.shape[1] // value.shape[1], 1), None

    transformers.AttentionInterface.register("look", look)
    transformers.AttentionMaskInterface.register("look", transformers.masking_utils.eager_mask)
    model.set_attn_implementation("look")
    model.get_submodule(attention.query).register_forward_hook(erase)
    with torch.no_grad():
        model(input_ids=torch.tensor([[5, 6, 7]]))
    query, key, value = inputs[:3]
    assert query.abs().min() > 0
    assert key.abs().max() == 0 and value.abs().max() == 0


def test_a_decoder_that_attends_to_a_source_is_refused() -> None:
    config = transformers.GPT2Config(
        vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=16, add_cross_attention=True
    )
    with torch.device("meta"):
        model = transformers.GPT2LMHeadModel(config)
    to_linear_layers(model)
    with pytest.raises(ModelError, match="no decoder that paretune understands"):
        read_anatomy(model)


def test_a_masked_lm_is_no_decoder(tiny_model: Any) -> None:
    model = AutoModelForMaskedLM.from_pretrained(tiny_model("bert"))
    assert read_anatomy(model).topology is not DECODER
