"""The anatomy of every family, found by structure, and what is said where there is none.

``anatomy.txt`` has that of each tiny model, read by hand against the architectures: structure must
find it without these names. ``PARETUNE_WRITE_ANATOMY=1`` writes it anew; look at the difference.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForSequenceClassification,
)

from paretune.errors import MethodError, ModelError
from paretune.models.load import to_linear_layers
from paretune.models.structure.anatomy import (
    ROLES,
    Anatomy,
    accepts_embeddings,
    find_backbone_parameters,
    find_target_modules,
    read_anatomy,
)
from paretune.models.structure.layers import FusedOutput
from paretune.models.structure.topology import DECODER, ENCODER_DECODER
from paretune.testing.tiny_models import DECODERS, FAMILIES, POSITIONS
from paretune.testing.tiny_translators import TRANSLATORS, tiny_translator

GOLDEN = Path(__file__).with_name("anatomy.txt")
CLASSES = {
    "classification": AutoModelForSequenceClassification,
    "multiple_choice": AutoModelForMultipleChoice,
    "causal_lm": AutoModelForCausalLM,
}
MODELS = [
    *((family, kind) for family in FAMILIES for kind in ("classification", "multiple_choice")),
    *((family, kind) for family in DECODERS for kind in ("classification", "causal_lm")),
    *((family, "translation") for family in TRANSLATORS),
]


def open_real(tiny_model: Any, family: str, kind: str) -> Any:
    """A tiny model with weights."""
    if kind == "translation":
        return tiny_translator(family)
    model = CLASSES[kind].from_pretrained(tiny_model(family))
    to_linear_layers(model)
    return model


def on_meta(folder: Any, kind: str) -> Any:
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        return CLASSES[kind].from_config(config)


def outline(tiny_model: Any, family: str, kind: str) -> Any:
    """The same on meta."""
    if kind == "translation":
        real = tiny_translator(family)
        with torch.device("meta"):
            return type(real)(real.config)
    model = on_meta(tiny_model(family), kind)
    to_linear_layers(model)
    return model


def describe(anatomy: Anatomy, model: Any) -> Iterator[str]:
    """what structure finds, in lines; layers of a stack are alike."""
    yield f"{anatomy.topology.name}, width {anatomy.width}, words of {anatomy.embedding_width}"
    outside = {*anatomy.linear_layers} - {*find_target_modules(anatomy, ["all_linear"])}
    facts = {
        "positions": anatomy.max_length,
        "pads with": anatomy.pad_id,
        "words": anatomy.word_embeddings,
        "position table": anatomy.position_embeddings,
        "encoder": anatomy.encoder,
        "reader of the text": anatomy.text_reader,
        "reads the source": " ".join(anatomy.source_readers),
        "untrainable": " ".join(anatomy.untrainable),
        "scores": f"{anatomy.topology.scored_vocabulary(model)} words",
        "head": " ".join(sorted(anatomy.head_modules)),
        "linear outside layers": " ".join(sorted(outside)),
    }
    yield from (f"{name}: {fact}" for name, fact in facts.items() if fact not in (None, ""))
    for stack in anatomy.stacks:
        alike = {tuple(describe_layer(layer, depth)) for depth, layer in enumerate(stack)}
        (lines,) = alike
        yield f"{len(stack)} layers of the {stack[0].stack}"
        yield from lines


def describe_layer(layer: Any, depth: int) -> Iterator[str]:
    inside = f"{layer.name}."
    assert layer.name.endswith(f".{depth}")
    yield f"  name: {layer.name.removesuffix(str(depth))}#"
    for attention in layer.attentions:
        names = (attention.query, attention.key, attention.value, attention.output)
        parts = " ".join(name.removeprefix(inside) for name in names)
        yield f"  {attention.name.removeprefix(inside)}: {parts}"
        if attention.fused_output is not None:
            yield f"  fused: {attention.fused_output}"
    ups = " ".join(up.removeprefix(inside) for up in layer.up)
    yield f"  feed-forward: {ups} -> {layer.down.removeprefix(inside)}"
    if layer.output_norm is not None:
        yield f"  norm: {layer.output_norm.removeprefix(inside)}"


def test_every_family_is_understood(tiny_model: Any) -> None:
    described: dict[str, list[str]] = {}
    for family, kind in MODELS:
        model = outline(tiny_model, family, kind)
        anatomy = read_anatomy(model)
        words = model.get_submodule(anatomy.word_embeddings)
        table = model.get_encoder() if kind == "translation" else model
        assert words is table.get_input_embeddings()
        lines = [*describe(anatomy, model)]
        # Of a family's second kind of head, what differs from the first.
        first = described.setdefault(family, lines)
        if first is not lines:
            described[f"{family} {kind}"] = [line for line in lines if line not in first]
    if os.environ.get("PARETUNE_WRITE_ANATOMY"):
        texts = ("\n".join([f"[{name}]", *lines, ""]) for name, lines in described.items())
        GOLDEN.write_text("\n".join(texts), encoding="utf-8")
    blocks = GOLDEN.read_text(encoding="utf-8").strip().split("\n\n")
    golden = {name.strip("[]"): lines for name, *lines in map(str.splitlines, blocks)}
    assert described == golden


@pytest.mark.parametrize(("family", "kind"), MODELS)
def test_a_model_with_weights_has_the_anatomy_of_its_outline(
    tiny_model: Any, family: str, kind: str
) -> None:
    real = open_real(tiny_model, family, kind)
    before = {name: p.clone() for name, p in real.named_parameters()}
    generator = torch.get_rng_state()
    assert read_anatomy(real) == read_anatomy(outline(tiny_model, family, kind).train())
    assert torch.equal(generator, torch.get_rng_state())
    assert all(torch.equal(p, before[name]) for name, p in real.named_parameters())


@pytest.mark.parametrize(("family", "kind"), [m for m in MODELS if m[1] != "multiple_choice"])
def test_max_length_is_the_longest_text_that_runs(tiny_model: Any, family: str, kind: str) -> None:
    model = open_real(tiny_model, family, kind).eval()
    anatomy = read_anatomy(model)
    limit = anatomy.max_length or POSITIONS
    targets = {"decoder_input_ids": torch.full((1, 4), 7)} if kind == "translation" else {}
    with torch.no_grad():
        logits = model(input_ids=torch.full((1, limit), 7), **targets).logits
        assert logits.isfinite().all()
        # M2M100 makes more rows of sines as it needs them.
        if anatomy.position_embeddings is not None and family != "m2m100":
            with pytest.raises((IndexError, RuntimeError)):
                model(input_ids=torch.full((1, limit + 1), 7), **targets)


@pytest.mark.parametrize("family", FAMILIES)
def test_roles_and_literal_names(tiny_model, family):
    parts = read_anatomy(on_meta(tiny_model(family), "classification"))
    layers = len(parts.layers)
    for role in ROLES:
        assert find_target_modules(parts, [role])
    assert len(find_target_modules(parts, ["all_linear"])) == layers * (
        4 if family == "modernbert" else 6
    )
    assert len(find_target_modules(parts, ["query"])) == layers
    both = find_target_modules(parts, ["value", "query"])
    assert both == find_target_modules(
        parts, ["query", "value"]
    )  # the order of the model, not of the request
    assert len(both) == layers * (1 if family == "modernbert" else 2)
    literal = parts.layers[0].self_attention.output.removeprefix(f"{parts.layers[0].name}.")
    assert find_target_modules(parts, [literal]) == find_target_modules(parts, ["attention_output"])


def test_literal_names_never_reach_the_head(tiny_model):
    parts = read_anatomy(on_meta(tiny_model("bert"), "classification"))
    assert find_target_modules(parts, ["dense"]) == find_target_modules(
        parts, ["attention_output", "feed_forward_up", "feed_forward_down"]
    )


def test_a_name_that_matches_nothing_is_refused(tiny_model):
    parts = read_anatomy(on_meta(tiny_model("camembert"), "classification"))
    with pytest.raises(MethodError) as caught:
        find_target_modules(parts, ["query", "q_proj", "fc1"])
    message = str(caught.value)
    assert '"q_proj", "fc1" match no linear layer' in message
    assert "attention.self.query" in message
    assert "attention_output" in message
    # "uery" is the end of a name, but not of a module's name.
    with pytest.raises(MethodError):
        find_target_modules(parts, ["uery"])


def test_unmatched_names_can_be_passed_over(tiny_model):
    parts = read_anatomy(on_meta(tiny_model("camembert"), "classification"))
    assert find_target_modules(parts, ["q_proj", "out_proj"], allow_unmatched=True) == []
    half = find_target_modules(parts, ["q_proj", "query"], allow_unmatched=True)
    assert half == find_target_modules(parts, ["query"])


def test_a_norm_that_is_written_last_and_used_first_has_not_the_last_word():
    config = transformers.XLMRobertaXLConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=20,
    )
    with torch.device("meta"):
        model = transformers.XLMRobertaXLForSequenceClassification(config)
    layer = read_anatomy(model).layers[0]
    assert [n for n, _ in model.get_submodule(layer.name).named_children()][-1] == "LayerNorm"
    assert layer.output_norm is None


def test_a_feed_forward_part_as_wide_as_the_model(tiny_model):
    config = AutoConfig.from_pretrained(tiny_model("bert"))
    config.intermediate_size = config.hidden_size
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    layer = read_anatomy(model).layers[0]
    assert layer.self_attention.output.endswith("attention.output.dense")
    assert (layer.up, layer.down) == (
        ("bert.encoder.layer.0.intermediate.dense",),
        "bert.encoder.layer.0.output.dense",
    )


class Mixer(nn.Module):
    """Mixes tokens with a linear layer: no attention anywhere."""

    def __init__(self) -> None:
        super().__init__()
        block = nn.ModuleDict({"tokens": nn.Linear(8, 8), "up": nn.Linear(16, 32)})
        self.blocks = nn.ModuleList([block])


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=16)
    with torch.device("meta"):
        return transformers.GPT2ForSequenceClassification(config)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), ["no list of blocks at all"]),
        (Mixer(), ["blocks: 1 x ModuleDict", "recognisable attention", "tokens 8x8, up 32x16"]),
        (gpt2(), ["2 x GPT2Block", "without linear layers", "attn.c_attn Conv1D"]),
    ],
)
def test_unknown_architectures_are_told_what_was_looked_for(model, message):
    with pytest.raises(ModelError) as caught:
        read_anatomy(model)
    text = str(caught.value)
    assert "Looked for: a list of equal blocks" in text
    assert "query, key and value" in text
    for part in message:
        assert part in text


@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_and_tokens_agree(tiny_model, family):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model(family)).train()
    assert accepts_embeddings(model)
    assert model.training


def test_a_scale_on_looked_up_embeddings_is_caught(tiny_model):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model("bert"))
    looked_up = model.bert.embeddings.forward

    def scaled(input_ids=None, inputs_embeds=None, **rest):
        if inputs_embeds is None:
            inputs_embeds = 4 * model.bert.embeddings.word_embeddings(input_ids)
        return looked_up(inputs_embeds=inputs_embeds, **rest)

    model.bert.embeddings.forward = scaled
    assert not accepts_embeddings(model)


def test_a_config_that_says_use_cache_false_is_read_on_meta_too(tiny_model: Any) -> None:
    config = AutoConfig.from_pretrained(tiny_model("qwen3"), use_cache=False)
    with torch.device("meta"):
        assert len(read_anatomy(AutoModelForCausalLM.from_config(config)).layers) == 2


def test_a_fused_projection_makes_keys_and_values_where_it_says() -> None:
    """Query, key and value of 2 channels each in two blocks; and of 4, 1 and 1 in one."""
    assert FusedOutput(1, 1, blocks=2).keys_and_values == (1, 2, 4, 5)
    assert FusedOutput(4, 1).keys_and_values == (4, 5)


def test_decoders_that_do_and_do_not_attend_to_a_source_are_refused(tiny_model: Any) -> None:
    """GPT-2 with a cross-attention; BERT without one, where a source is to be read."""
    gpt2_config = AutoConfig.from_pretrained(tiny_model("gpt2"), add_cross_attention=True)
    bert_config = AutoConfig.from_pretrained(tiny_model("bert"), is_decoder=True)
    with torch.device("meta"):
        attends = transformers.GPT2LMHeadModel(gpt2_config)
        alone = transformers.BertLMHeadModel(bert_config)
    to_linear_layers(attends)
    alone.config.is_encoder_decoder = True
    for model, message in (
        (attends, "no decoder that"),
        (alone, "without attention to the source"),
    ):
        with pytest.raises(ModelError, match=message):
            read_anatomy(model)


def test_a_masked_lm_is_no_decoder(tiny_model: Any) -> None:
    model = AutoModelForMaskedLM.from_pretrained(tiny_model("bert"))
    assert read_anatomy(model).topology is not DECODER


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
