"""What the contract's walk cannot see of methods on translation models.

Searches step by step, positions behind prompts, prefixes in all attentions. By default a third of
the methods walks on Marian, and one on each further family; the slow tests take all.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.chosen import share_marks
from support.seq2seq_walk import TARGET, TRAINED, case
from torch import Tensor, nn

from paretune.errors import MethodError
from paretune.methods import prompt
from paretune.testing.tiny_translators import TRANSLATORS

FAMILIES = ("marian", "t5", "mbart")
OTHERS = ("lora", "prefix", "layer_norm")
"""Methods that walk on every family even in the slow run: to the rest an mT5 is a T5."""
WITHOUT_BIAS = ("t5", "gated-t5", "mt5")
PROMPTS = ("prompt", "p_tuning")


def pairs(names: tuple[str, ...] = TRAINED) -> list[Any]:
    """By default a third of the methods on Marian, and one on each other family."""
    marked = []
    for number, family in enumerate(TRANSLATORS):
        able = [
            name
            for name in names
            if (family in FAMILIES or name in OTHERS)
            and not (name == "bitfit" and family in WITHOUT_BIAS)
        ]
        for index, name in enumerate(able):
            marks = share_marks(number + index, 3 if family == "marian" else len(able))
            marked.append(pytest.param((name, family), id=f"{name}-{family}", marks=marks))
    return marked


@pytest.mark.parametrize("pair", pairs())
def test_no_word_knows_those_after_it(pair: tuple[str, str]) -> None:
    """A search step by step, with a cache, finds what teacher forcing says of its words."""
    one = case(*pair)
    one.injected()
    batch = one.batch()
    del batch["labels"]
    generated = one.model.generate(
        **batch, max_new_tokens=TARGET, output_logits=True, return_dict_in_generate=True
    )
    words = generated.sequences[:, :-1]
    forced = one.logits(**batch, decoder_input_ids=words)
    torch.testing.assert_close(forced, torch.stack(generated.logits, 1), rtol=0, atol=2e-5)
    open_to_all = one.logits(
        **batch, decoder_input_ids=words, decoder_attention_mask=torch.ones_like(words)
    )
    torch.testing.assert_close(open_to_all, forced, rtol=0, atol=2e-5)
    other = words.clone()
    other[:, -1] = 7
    changed = one.logits(**batch, decoder_input_ids=other)
    torch.testing.assert_close(changed[:, :-1], forced[:, :-1], rtol=0, atol=2e-5)
    assert not torch.allclose(changed[:, -1], forced[:, -1], atol=1e-3)


@pytest.mark.parametrize("family", TRANSLATORS)
def test_a_prompt_of_words_is_read_as_those_words(family: str) -> None:
    """Whatever the model does between its table and its first layer, it does to both."""
    words = (7, 21, 9)
    one = case("prompt", family)
    batch = one.batch()
    longer = dict(batch)
    front = torch.tensor(words).expand(len(batch["labels"]), -1)
    longer["input_ids"] = torch.cat([front, batch["input_ids"]], 1)
    longer["attention_mask"] = torch.cat([torch.ones_like(front), batch["attention_mask"]], 1)
    written, texts = one.logits(**longer), one.translations(**longer)
    options = prompt.PromptOptions(
        num_virtual_tokens=3, init="text", init_text="x", text_positions="shifted"
    )
    one.options = options.with_tokenizer(lambda text: {"input_ids": words})
    one.inject()
    torch.testing.assert_close(one.logits(**batch), written, rtol=0, atol=1e-5)
    assert one.translations(**batch) == texts


@pytest.mark.parametrize("method", PROMPTS)
@pytest.mark.parametrize("family", TRANSLATORS)
def test_the_text_keeps_its_positions_behind_a_prompt(family: str, method: str) -> None:
    """Where they are absolute, and unless the study wants them shifted as PEFT does."""
    one = case(method, family)
    if one.anatomy.position_embeddings is None:
        assert family in ("t5", "gated-t5", "mt5")
        return
    seen: list[Tensor] = []
    table = one.model.get_submodule(one.anatomy.position_embeddings)

    def note(module: nn.Module, args: Any, out: Tensor) -> None:
        seen.append(out)

    with torch.no_grad():
        for text_positions in ("without", "auto", "shifted"):
            injection = None
            if text_positions != "without":
                one.options = one.options.model_copy(update={"text_positions": text_positions})
                injection = one.inject()
            handle = table.register_forward_hook(note)  # behind ours
            one.logits(**one.batch(rows=1))  # one row: M2M100 gives padding no position
            handle.remove()
            if injection is not None:
                injection.undo()
    plain, kept, shifted = seen
    virtual = one.options.num_virtual_tokens
    assert torch.equal(kept[..., virtual:, :], plain) and not kept[..., :virtual, :].any()
    assert torch.equal(
        shifted[..., : plain.shape[-2], :][..., :virtual, :], plain[..., :virtual, :]
    )
    assert not torch.equal(shifted[..., virtual:, :], plain)


def test_a_table_that_both_stacks_look_up_in_prompts_only_the_source() -> None:
    one = case("prompt", "mbart")
    injection = one.injected()
    expected, moved = one.logits(), [p.detach().clone() for p in injection.parameters.values()]
    injection.undo()
    one.model.set_input_embeddings(one.model.get_encoder().embed_tokens)
    assert one.model.get_encoder().embed_tokens is one.model.get_decoder().embed_tokens
    for parameter, value in zip(one.inject().parameters.values(), moved, strict=True):
        parameter.data.copy_(value)
    torch.testing.assert_close(one.logits(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", PROMPTS)
def test_a_prompt_needs_no_mask_but_ids(method: str) -> None:
    one = case(method, "t5")
    one.injected()
    batch = one.batch(rows=1)
    seen = one.logits(**batch)
    del batch["attention_mask"]
    torch.testing.assert_close(one.logits(**batch), seen, rtol=0, atol=1e-6)
    embedded = one.model.get_input_embeddings()(batch.pop("input_ids"))
    with pytest.raises(MethodError, match="called without input_ids"):
        one.logits(inputs_embeds=embedded, **batch)


@pytest.mark.parametrize("family", FAMILIES)
def test_prefixes_stand_in_all_three_attentions(family: str) -> None:
    one = case("prefix", family)
    parts = set(one.inject().adapters)
    attentions = [a for layer in one.anatomy.layers for a in layer.attentions]
    assert parts == {a.query.rpartition(".")[0] for a in attentions}
    assert len(parts) == 3 + 2 + 2


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_prefix_is_the_same_however_attention_is_computed(family: str, projected: bool) -> None:
    one = case("prefix", family, prefix_projection=projected)
    count = one.method.count_parameters(one.model, one.anatomy, one.options)
    injection = one.injected()
    assert sum(p.numel() for p in injection.parameters.values()) == count
    by_kernel, texts = one.logits(), one.translations()
    moved = {n: p.detach().clone() for n, p in injection.parameters.items()}
    injection.undo()
    one.model.set_attn_implementation("eager")
    for name, parameter in one.inject().parameters.items():
        parameter.data.copy_(moved[name])
    torch.testing.assert_close(one.logits(), by_kernel, rtol=0, atol=2e-5)
    assert one.translations() == texts


def test_adapterdrop_drops_the_lower_layers_of_each_stack() -> None:
    def left(**options: Any) -> list[str]:
        return list(case("adapterdrop", "marian", **options).inject().adapters)

    upper = ["encoder.layers.1", "encoder.layers.2", "decoder.layers.1"]
    assert left() == [f"model.{name}.fc2" for name in upper]
    assert left(drop=1) == left()
    assert len(left(robust=True)) == 5
    with pytest.raises(MethodError, match="2 layers dropped leave none of 2"):
        left(drop=2)


@pytest.mark.parametrize("names", [("prompt", "unipelt"), ("unipelt", "prompt")])
def test_gates_count_a_prompt_as_text_whoever_came_first(names: tuple[str, str]) -> None:
    """The gates' means are over the prompt and the source, and over no padding."""
    one = case("stack", "marian", methods=[{"name": n, "num_virtual_tokens": 3} for n in names])
    one.injected()
    together = one.logits()
    for row, expected in enumerate(together):
        alone = {n: t[row : row + 1] for n, t in one.batch().items()}
        seen = int(alone["attention_mask"].sum())
        alone |= {n: alone[n][:, :seen] for n in ("input_ids", "attention_mask")}
        torch.testing.assert_close(one.logits(**alone)[0], expected, rtol=0, atol=2e-5)
