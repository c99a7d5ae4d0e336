"""Our methods on decoders beside PEFT's: from the same start, the same losses, step by step.

Both continue texts of random weights' models in fp32; PEFT computes by its own modules and its own
forward pass. By default six forms on Llama, and LoRA on Qwen 3, Gemma 3 and OPT; ``wide`` are all
six there, and the slow tests take all.
"""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
import torch.nn.functional as F
from support.decoder_walk import PAD, DecoderCase, decoder_case, tiny_decoder
from torch import Tensor

from paretune.testing.tiny_models import DECODERS, WINDOW

STEPS, RATE = 20, 5e-3
DEFAULT_FAMILIES = ("llama", "qwen3", "gemma3", "opt")
DEFAULT_FORMS = ("lora", "dora", "loha", "ia3", "prompt", "prefix")
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("lora", {"rank": 4}),
    "dora": ("dora", {"rank": 4}),
    "loha": ("loha", {"rank": 2}),
    "lokr": ("lokr", {"rank": 2}),
    "ia3": ("ia3", {}),
    "layer_norm": ("layer_norm", {}),
    "prompt": ("prompt", {"num_virtual_tokens": 3}),
    "p_tuning": ("p_tuning", {"num_virtual_tokens": 3}),
    "prefix": ("prefix", {"num_virtual_tokens": 3}),
}


def list_marks(form: str, family: str) -> list[pytest.MarkDecorator]:
    if form not in DEFAULT_FORMS or family not in DEFAULT_FAMILIES:
        return [pytest.mark.slow]
    return [] if family == "llama" or form == "lora" else [pytest.mark.wide]


PLACES = [
    pytest.param(form, family, marks=list_marks(form, family))
    for form in FORMS
    for family in DECODERS
    # Where one layer makes all three, PEFT trains a scale of the query too.
    if not (form == "ia3" and family in ("phi3", "gpt2", "gpt_neox"))
]
LENGTHS = (11, 8, 5)
"""Tokens of the texts: with virtual tokens in front no more than a sliding window sees, out of
which PEFT's prefix would fall."""


def batches(words: int) -> list[dict[str, Tensor]]:
    """For each step three texts, of which the last three or four tokens are scored."""
    draw, steps = torch.Generator().manual_seed(2), []
    for _ in range(STEPS):
        ids = torch.full((len(LENGTHS), LENGTHS[0]), PAD)
        labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
        for row, length in enumerate(LENGTHS):
            ids[row, :length] = torch.randint(10, words, (length,), generator=draw)
            labels[row, length - 3 - row % 2 : length] = ids[row, length - 3 - row % 2 : length]
            mask[row, :length] = 1
        steps.append({"input_ids": ids, "attention_mask": mask, "labels": labels})
    return steps


def losses(model: Any, decay: float = 0.0, slower: dict[str, float] | None = None) -> list[float]:
    """Those of twenty steps of AdamW.

    ``slower``: by the end of a tensor's name, by what its learning rate is divided.
    """
    slower = slower or {}
    groups = [
        {"params": [p], "lr": RATE / slower.get(name.rpartition(".")[2], 1.0)}
        for name, p in model.named_parameters()
        if p.requires_grad
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=decay)
    model.train()
    values = []
    for batch in batches(model.config.vocab_size):
        labels = batch.pop("labels")
        logits = model(**batch, use_cache=False).logits[:, -labels.shape[1] :]
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    return values


def without_dropout(model: Any) -> Any:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "attention_dropout"):  # OPT's are numbers
            if isinstance(vars(module).get(name), float):
                setattr(module, name, 0.0)
    return model


def both(form: str, family: str) -> tuple[DecoderCase, Any]:
    """Our model and PEFT's, the method in both with the same weights."""
    name, options = FORMS[form]
    ours = decoder_case(name, family, **options)
    without_dropout(ours.model)
    injection = ours.inject()
    assert ours.method.to_peft is not None
    common = {"task_type": "CAUSAL_LM", "modules_to_save": None}
    base = without_dropout(tiny_decoder(family))
    theirs = ours.method.to_peft(base, ours.options, injection, common)
    assert isinstance(theirs, peft.PeftModelForCausalLM)
    return ours, theirs


@pytest.mark.parametrize(("form", "family"), PLACES)
def test_same_losses(form: str, family: str) -> None:
    assert LENGTHS[0] + 3 < WINDOW
    ours, theirs = both(form, family)
    counts = [
        sum(p.numel() for p in model.parameters() if p.requires_grad)
        for model in (ours.model, theirs)
    ]
    assert counts[0] == counts[1]
    # PEFT's normalisations are the sums of what is frozen and of what is trained in ours, which
    # would decay apart; and behind Gemma's table, which multiplies its rows, PEFT has these.
    scale = float(getattr(ours.model.get_input_embeddings(), "embed_scale", 1.0))
    decay = 0.01 if scale == 1.0 and form != "layer_norm" else 0.0
    actual = losses(ours.model, decay, dict.fromkeys(("P", "W3", "b3_bias"), scale))
    expected = losses(theirs, decay)
    assert max(actual) - min(actual) > 1e-3
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
