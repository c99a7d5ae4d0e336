"""The anatomy of every family, found by structure, and what is said where there is none."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModelForMultipleChoice, AutoModelForSequenceClassification

from paretune.errors import MethodError, ModelError
from paretune.models.structure.anatomy import (
    ROLES,
    accepts_embeddings,
    find_target_modules,
    read_anatomy,
)
from paretune.testing.tiny_models import FAMILIES, POSITIONS

KINDS = {
    "classification": AutoModelForSequenceClassification,
    "multiple_choice": AutoModelForMultipleChoice,
}
# Written down by hand from the architectures: what structure must find without these names.
QUERY = {
    "distilbert": "attention.q_lin",
    "deberta-v2": "attention.self.query_proj",
    "modernbert": "attn.Wqkv",
}
OUTPUT = {"distilbert": "attention.out_lin", "modernbert": "attn.Wo"}
FEED_FORWARD = {
    "distilbert": (("ffn.lin1",), "ffn.lin2"),
    "modernbert": (("mlp.Wi",), "mlp.Wo"),
}
NORM = {"distilbert": "output_layer_norm", "modernbert": None}
LINEARS = {"modernbert": 4}
HEADS = {
    ("bert", "classification"): {"bert.pooler", "classifier"},
    ("bert", "multiple_choice"): {"bert.pooler", "classifier"},
    ("distilbert", "classification"): {"pre_classifier", "classifier"},
    ("distilbert", "multiple_choice"): {"pre_classifier", "classifier"},
    ("deberta-v2", "classification"): {"pooler", "classifier"},
    ("deberta-v2", "multiple_choice"): {"pooler", "classifier"},
    ("electra", "classification"): {"classifier"},
    ("electra", "multiple_choice"): {"sequence_summary", "classifier"},
    ("modernbert", "classification"): {"head", "classifier"},
    ("modernbert", "multiple_choice"): {"head", "classifier"},
}


def on_meta(folder, kind):
    with torch.device("meta"):
        return KINDS[kind].from_config(AutoConfig.from_pretrained(folder))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_understood(tiny_model, family, kind):
    model = on_meta(tiny_model(family), kind)
    parts = read_anatomy(model)
    assert len(parts.layers) == model.config.num_hidden_layers
    for layer in parts.layers:
        inside = f"{layer.name}."
        assert layer.self_attention.query == inside + QUERY.get(family, "attention.self.query")
        assert layer.self_attention.output == inside + OUTPUT.get(family, "attention.output.dense")
        ups, down = FEED_FORWARD.get(family, (("intermediate.dense",), "output.dense"))
        assert layer.up == tuple(inside + up for up in ups)
        assert layer.down == inside + down
        norm = NORM.get(family, "output.LayerNorm")
        assert layer.output_norm == (None if norm is None else inside + norm)
        fused = layer.self_attention.fused_output is not None
        assert fused == (family == "modernbert")
        distinct = {
            layer.self_attention.query,
            layer.self_attention.key,
            layer.self_attention.value,
        }
        assert len(distinct) == (1 if fused else 3)
        assert "k" in layer.self_attention.key.rpartition(".")[2][:3]
        assert "v" in layer.self_attention.value.rpartition(".")[2]
    roberta = {"classifier"} if kind == "classification" else {"roberta.pooler", "classifier"}
    assert set(parts.head_modules) == HEADS.get((family, kind), roberta)
    assert parts.width == 32
    assert parts.embedding_width == (16 if family == "electra" else 32)
    assert model.get_submodule(parts.word_embeddings) is model.get_input_embeddings()
    assert parts.max_length == (None if family == "deberta-v2" else POSITIONS)
    assert parts.pad_id == model.config.pad_token_id
    projection = {"electra.embeddings_project"} if family == "electra" else set()
    assert set(parts.linear_layers) - set(find_target_modules(parts, ["all_linear"])) == projection


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_with_weights_has_the_anatomy_of_its_plan(tiny_model, family):
    real = AutoModelForSequenceClassification.from_pretrained(tiny_model(family))
    before = {name: p.clone() for name, p in real.named_parameters()}
    generator = torch.get_rng_state()
    assert read_anatomy(real) == read_anatomy(on_meta(tiny_model(family), "classification"))
    assert torch.equal(generator, torch.get_rng_state())
    assert all(torch.equal(p, before[name]) for name, p in real.named_parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_max_length_is_the_longest_text_that_runs(tiny_model, family):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model(family)).eval()
    limit = read_anatomy(model).max_length or POSITIONS
    with torch.no_grad():
        assert model(input_ids=torch.full((1, limit), 7)).logits.isfinite().all()
        if family not in ("deberta-v2", "modernbert"):  # no table of positions to run out of
            with pytest.raises((IndexError, RuntimeError)):
                model(input_ids=torch.full((1, limit + 1), 7))


@pytest.mark.parametrize("family", FAMILIES)
def test_roles_and_literal_names(tiny_model, family):
    parts = read_anatomy(on_meta(tiny_model(family), "classification"))
    layers = len(parts.layers)
    for role in ROLES:
        assert find_target_modules(parts, [role])
    assert len(find_target_modules(parts, ["all_linear"])) == layers * LINEARS.get(family, 6)
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


def test_gates_apart_and_few_key_heads():
    config = transformers.LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    with torch.device("meta"):
        model = transformers.LlamaForSequenceClassification(config)
    layer = read_anatomy(model).layers[0]
    assert layer.self_attention.output == "model.layers.0.self_attn.o_proj"
    assert layer.up == ("model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj")
    assert layer.down == "model.layers.0.mlp.down_proj"


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
