"""Every tuner of ``peft`` that trains here, on a translation model."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
from support.peft_tuners import NOT_AS_BASE, SMALL
from support.seq2seq_walk import case

from paretune import methods, objectives
from paretune.errors import MethodError
from paretune.methods.peft.supported import SUPPORTED
from paretune.testing.tiny_translators import tiny_translator

SERVING = [
    n
    for n in sorted(SUPPORTED)
    if not methods.refusal(methods.get(f"peft:{n}"), objectives.get("translation"), tabular=False)
]


def test_all_but_the_tuner_of_a_table_serve() -> None:
    assert set(SUPPORTED) - set(SERVING) == {"trainable_tokens"}


@pytest.mark.parametrize("tuner", SERVING)
def test_a_tuner_trains_a_translator(tuner: str, tmp_path: Any) -> None:
    one = case(f"peft:{tuner}", "marian", **SMALL.get(tuner, {}))
    base, batch = one.logits(), one.batch()
    del batch["labels"]
    count = one.method.count_parameters(one.model, one.anatomy, one.options)
    assert torch.equal(one.logits(), base)
    injection = one.inject()
    assert sum(p.numel() for p in injection.parameters.values()) == count
    assert torch.allclose(one.logits(), base, atol=1e-5) == (tuner not in NOT_AS_BASE)
    one.unsettle(injection)
    one.model(**one.batch()).loss.backward()
    assert [n for n, p in injection.parameters.items() if p.grad is None or not p.grad.any()] == []
    moved = one.logits()
    assert not torch.allclose(moved, base, atol=1e-3)
    output = one.model.generate(
        **batch, max_new_tokens=6, output_logits=True, return_dict_in_generate=True
    )
    forced = one.logits(**batch, decoder_input_ids=output.sequences[:, :-1])
    torch.testing.assert_close(forced, torch.stack(output.logits, 1), rtol=0, atol=1e-4)
    common = {"modules_to_save": None, "task_type": "SEQ_2_SEQ_LM"}
    one.method.peft_export.convert(
        tiny_translator("marian"), one.options, injection, common
    ).save_pretrained(tmp_path)
    theirs = peft.PeftModel.from_pretrained(tiny_translator("marian"), str(tmp_path)).eval()
    with torch.no_grad():
        torch.testing.assert_close(theirs(**one.batch()).logits, moved, rtol=0, atol=1e-4)
    injection.undo()
    assert torch.equal(one.logits(), base)


def test_layers_are_counted_through_both_stacks() -> None:
    one = case("peft:lora", "marian", layers_to_transform=[0, 4], target_modules=["query"])
    names = [layer.name for layer in one.anatomy.layers]
    assert {name.rpartition(".")[0].rpartition(".")[0] for name in one.inject().adapters} == {
        names[0], names[4],
    }  # fmt: skip
    with pytest.raises(MethodError, match="the model has 0 to 4"):
        case("peft:lora", "marian", layers_to_transform=[5]).inject()
