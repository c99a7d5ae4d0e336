"""One place for all dropout: silent at 0, and put back as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from paretune.models.dropout import read_dropout_rates, restore_dropout, set_dropout
from paretune.testing.tiny_models import FAMILIES

IDS = torch.arange(5, 25)[None]


@pytest.mark.parametrize("family", FAMILIES)
def test_without_dropout_training_equals_evaluation(tiny_model, family):
    # The families' defaults differ, and ModernBERT's are 0: set them all, attention's included.
    extra = {"attention_dropout": 0.3, "mlp_dropout": 0.3} if family == "modernbert" else {}
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model(family), **extra)
    as_loaded = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
    config, rates = model.config.to_dict(), read_dropout_rates(model)
    with torch.no_grad():
        quiet = model.eval()(IDS).logits
        assert not torch.allclose(model.train()(IDS).logits, quiet, atol=1e-5)
        set_dropout(model, 0.0)
        assert torch.equal(model.train()(IDS).logits, model.eval()(IDS).logits)
        set_dropout(model, 0.4)
        assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.4}
        assert not torch.allclose(model.train()(IDS).logits, quiet, atol=1e-5)
    restore_dropout(model, rates)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == as_loaded
    assert model.config.to_dict() == config


def test_a_module_added_later_keeps_its_own(tiny_model):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model("bert"))
    rates = read_dropout_rates(model)
    model.add_module("later", nn.Dropout(0.7))
    restore_dropout(model, rates)
    assert model.later.p == 0.7
