"""What a topology says of the models that have it, and which models have none yet."""

from __future__ import annotations

import pytest
import transformers

from paretune.errors import ModelError
from paretune.models.structure.heads import require_head, require_known
from paretune.models.structure.topology import DECODER, ENCODER, ENCODER_DECODER, topology_of
from paretune.objectives.objective import HeadSpec
from paretune.study import Generation


@pytest.mark.parametrize(
    ("config", "topology"),
    [
        (transformers.BertConfig(), ENCODER),
        (transformers.ModernBertConfig(), ENCODER),
        (transformers.T5Config(), ENCODER_DECODER),
        (transformers.MarianConfig(), ENCODER_DECODER),
        (transformers.GPT2Config(), DECODER),
        (transformers.LlamaConfig(), DECODER),
        (transformers.Gemma3TextConfig(), DECODER),
    ],
)
def test_the_config_tells(config, topology):
    require_known(config, "here")
    assert topology_of(config) == topology


def test_a_decoder_that_reads_pictures_too_is_refused():
    with pytest.raises(ModelError, match='"gemma3", which reads more than text') as refusal:
        require_known(transformers.Gemma3Config(), "here")
    assert 'type "gemma3_text"' in str(refusal.value.remedy)


@pytest.mark.parametrize(
    ("config", "kind", "message"),
    [
        (transformers.T5Config(), "sequence_classification", "with encoder and decoder, and"),
        (transformers.BertConfig(), "seq2seq_lm", "an encoder, and cannot serve a toy task"),
        (transformers.LlamaConfig(), "seq2seq_lm", "a decoder-only model, and cannot serve a toy"),
        (transformers.BertConfig(), "causal_lm", "an encoder, and cannot serve a toy task"),
        (transformers.CLIPConfig(), "sequence_classification", "has no head for toy"),
    ],
)
def test_a_head_that_a_model_cannot_have_is_refused(config, kind, message):
    with pytest.raises(ModelError, match=message):
        require_head(config, HeadSpec(kind, "toy", logits=2), "here")


def test_an_encoder_reads_one_token_and_generates_nothing(tiny_model):
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tiny_model("bert"))
    assert (ENCODER.pooled_token, ENCODER_DECODER.pooled_token) == (0, None)
    with pytest.raises(TypeError, match="BertForSequenceClassification is an encoder"):
        ENCODER.generation_config(model, Generation(), 128, None)
