"""The anatomy of translation models: two stacks, and a decoder that looks at both."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers
from torch import nn

from paretune.errors import ModelError
from paretune.models.structure.anatomy import (
    ROLES,
    accepts_embeddings,
    find_backbone_parameters,
    find_target_modules,
    read_anatomy,
)
from paretune.models.structure.topology import ENCODER_DECODER
from paretune.testing.tiny_translators import (
    DECODER_LAYERS,
    ENCODER_LAYERS,
    HEADS,
    INNER,
    POSITIONS,
    T5_HEAD,
    TRANSLATORS,
    WIDTH,
    tiny_translator,
)

RELATIVE = ("t5", "gated-t5", "mt5")
GATED = ("gated-t5", "mt5")
NORM_LAST = ("marian", "bart")


@pytest.mark.parametrize("family", TRANSLATORS)
def test_every_translator_is_understood(family):
    """Written down by hand from the architectures: what structure must find without the names."""
    model = tiny_translator(family)
    parts = read_anatomy(model)
    assert [layer.stack for layer in parts.layers] == (
        ["encoder"] * ENCODER_LAYERS + ["decoder"] * DECODER_LAYERS
    )
    assert [len(stack) for stack in parts.stacks] == [ENCODER_LAYERS, DECODER_LAYERS]
    for layer, depth in zip(
        parts.layers, (*range(ENCODER_LAYERS), *range(DECODER_LAYERS)), strict=True
    ):
        if family in RELATIVE:
            name, own = f"{layer.stack}.block.{depth}", "layer.0.SelfAttention"
            query, output, cross = "q", "o", "layer.1.EncDecAttention"
            inner = f"layer.{1 if layer.stack == 'encoder' else 2}.DenseReluDense"
            ups = ("wi_0", "wi_1") if family in GATED else ("wi",)
            up, down = tuple(f"{inner}.{one}" for one in ups), f"{inner}.wo"
        else:
            name, own = f"model.{layer.stack}.layers.{depth}", "self_attn"
            query, output, cross = "q_proj", "out_proj", "encoder_attn"
            up, down = ("fc1",), "fc2"
        assert layer.name == name
        assert layer.self_attention.name == f"{name}.{own}"
        assert layer.self_attention.query == f"{name}.{own}.{query}"
        assert layer.self_attention.output == f"{name}.{own}.{output}"
        assert layer.up == tuple(f"{name}.{one}" for one in up)
        assert layer.down == f"{name}.{down}"
        assert (layer.cross_attention is None) == (layer.stack == "encoder")
        if layer.cross_attention is not None:
            assert layer.cross_attention.name == f"{name}.{cross}"
            assert layer.cross_attention.query == f"{name}.{cross}.{query}"
            assert layer.cross_attention.output == f"{name}.{cross}.{output}"
            assert layer.attentions == (layer.self_attention, layer.cross_attention)
        for attention in layer.attentions:
            assert attention.key.rpartition(".")[2].startswith("k")
            assert attention.value.rpartition(".")[2].startswith("v")
        last = f"{name}.final_layer_norm" if family in NORM_LAST else None
        assert layer.output_norm == last
    assert parts.width == parts.embedding_width == WIDTH
    assert parts.head_modules == ()
    assert parts.max_length == (None if family in RELATIVE else POSITIONS)
    assert parts.pad_id == model.config.pad_token_id
    inside = "" if family in RELATIVE else "model."
    assert parts.encoder == parts.text_reader == f"{inside}encoder"
    assert parts.source_readers == (f"{inside}decoder",)
    assert parts.topology == ENCODER_DECODER
    assert not set(parts.linear_layers).difference(find_target_modules(parts, ["all_linear"]))


@pytest.mark.parametrize("family", TRANSLATORS)
def test_the_embeddings_are_those_that_the_encoder_calls(family):
    model = tiny_translator(family)
    called = []
    table = model.get_submodule(read_anatomy(model).word_embeddings)
    table.register_forward_hook(lambda module, inputs, out: called.append(inputs[0].shape))
    model.get_encoder()(input_ids=torch.full((2, 5), 7))
    assert called == [(2, 5)]


@pytest.mark.parametrize("family", TRANSLATORS)
def test_a_translator_with_weights_has_the_anatomy_of_its_plan(family):
    real = tiny_translator(family)
    before = {name: p.clone() for name, p in real.named_parameters()}
    generator = torch.get_rng_state()
    with torch.device("meta"):
        plan = type(real)(real.config)
    assert read_anatomy(real) == read_anatomy(plan.train())
    assert plan.training
    assert torch.equal(generator, torch.get_rng_state())
    assert all(torch.equal(p, before[name]) for name, p in real.named_parameters())


@pytest.mark.parametrize("family", ["marian", "t5"])
def test_an_opened_checkpoint_has_the_anatomy_of_what_was_saved(family, tmp_path):
    """The positions of Marian are no weights, though ``from_pretrained`` lets them be trained."""
    model = tiny_translator(family)
    model.save_pretrained(tmp_path)
    assert read_anatomy(type(model).from_pretrained(tmp_path)) == read_anatomy(model)


@pytest.mark.parametrize("family", TRANSLATORS)
def test_max_length_is_the_longest_source_that_runs(family):
    model = tiny_translator(family)
    limit = read_anatomy(model).max_length or POSITIONS
    with torch.no_grad():
        ids = torch.full((1, limit), 7)
        assert model(input_ids=ids, decoder_input_ids=ids).logits.isfinite().all()
        if family not in (*RELATIVE, "m2m100"):  # M2M100 makes more rows of sines as it needs them
            with pytest.raises((IndexError, RuntimeError)):
                model(input_ids=torch.full((1, limit + 1), 7), decoder_input_ids=ids)


@pytest.mark.parametrize("family", TRANSLATORS)
def test_roles_cover_the_attention_to_the_source(family):
    model = tiny_translator(family)
    parts = read_anatomy(model)
    attentions = ENCODER_LAYERS + 2 * DECODER_LAYERS
    layers = ENCODER_LAYERS + DECODER_LAYERS
    ups = 2 if family in GATED else 1
    many = {"feed_forward_up": layers * ups, "feed_forward_down": layers}
    many["all_linear"] = 4 * attentions + (ups + 1) * layers
    for role in ROLES:
        assert len(find_target_modules(parts, [role])) == many.get(role, attentions)
    inner = HEADS * T5_HEAD if family in RELATIVE else WIDTH
    for role, shape in {
        "query": (inner, WIDTH),
        "key": (inner, WIDTH),
        "attention_output": (WIDTH, inner),
        "feed_forward_up": (INNER, WIDTH),
        "feed_forward_down": (WIDTH, INNER),
    }.items():
        assert {
            tuple(model.get_submodule(n).weight.shape) for n in find_target_modules(parts, [role])
        } == {shape}
    literal = "EncDecAttention.q" if family in RELATIVE else "encoder_attn.q_proj"
    assert len(find_target_modules(parts, [literal])) == DECODER_LAYERS


def test_what_gives_words_is_not_in_reach_of_methods():
    """mT5's own output layer, which others share with their tables, comes after the last state."""
    model = tiny_translator("mt5")
    # As from_pretrained leaves it where the checkpoint has two tables.
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach() + 1)
    apart = set(dict(model.named_parameters())) - find_backbone_parameters(model, ENCODER_DECODER)
    assert apart == {"lm_head.weight"}
    assert "lm_head" not in read_anatomy(model).linear_layers
    assert read_anatomy(model).head_modules == ()
    for family in ("marian", "t5", "mbart"):
        model = tiny_translator(family)
        fixed = set(read_anatomy(model).untrainable)
        weights = set(dict(model.named_parameters())) - fixed
        assert find_backbone_parameters(model, ENCODER_DECODER) >= weights
        tables = {f"model.{stack}.embed_positions.weight" for stack in ("encoder", "decoder")}
        assert fixed == (tables if family == "marian" else set())


@pytest.mark.parametrize("family", TRANSLATORS)
def test_the_scale_between_table_and_first_layer_is_seen(family):
    """Marian reads embeddings as a whisper; mBART's table gives them scaled."""
    model = tiny_translator(family).train()
    assert accepts_embeddings(model) == (family != "marian")
    assert model.training
    assert accepts_embeddings(tiny_translator("marian", scale_embedding=False))


def test_a_decoder_that_sees_no_source_is_refused():
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        is_decoder=True,
    )
    with torch.device("meta"):
        model = transformers.BertLMHeadModel(config)
    model.config.is_encoder_decoder = True
    with pytest.raises(ModelError, match=r"(?s)BertLMHeadModel .*without attention to the source"):
        read_anatomy(model)


def test_two_stacks_of_bert_are_understood():
    """Attentions that are told apart by nothing but their order."""
    bert = transformers.BertConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(bert, copy.copy(bert))
    parts = read_anatomy(transformers.EncoderDecoderModel(config))
    assert parts.layers[0].cross_attention is None
    last = parts.layers[-1]
    assert last.name == "decoder.bert.encoder.layer.1"
    assert last.self_attention.query == f"{last.name}.attention.self.query"
    assert last.cross_attention is not None
    assert last.cross_attention.query == f"{last.name}.crossattention.self.query"
    assert last.cross_attention.output == f"{last.name}.crossattention.output.dense"
