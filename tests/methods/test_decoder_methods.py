"""Every method on decoders: no token knows those after it, and a cache changes nothing.

What the contract's walk cannot see: it reads whole texts, and generates none. By default each
method walks on a share of the families; the slow tests take all.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.chosen import chosen, share_marks
from support.decoder_walk import NEW, TRAINED, WITHOUT_BIAS, decoder_case

from paretune.methods import ia3, layer_norm, lora, prompt
from paretune.methods.core.injection import get_linear
from paretune.testing.tiny_models import DECODERS, WINDOW

FAMILIES = chosen([(family,) for family in DECODERS], 4)


def pairs(names: tuple[str, ...] = TRAINED) -> list[Any]:
    places = [
        (name, family)
        for name in names
        for family in DECODERS
        if not (name == "bitfit" and family in WITHOUT_BIAS)
    ]
    return [
        pytest.param(
            (name, family),
            id=f"{name}-{family}",
            marks=share_marks(names.index(name) + DECODERS.index(family), 3 * len(DECODERS)),
        )
        for name, family in places
    ]


@pytest.mark.parametrize("pair", pairs())
def test_a_search_with_a_cache_finds_what_whole_texts_say(pair: tuple[str, str]) -> None:
    """Texts padded on the left, some longer than a sliding window, against each text alone.

    Whole texts have the words after each token too: if it knew them, the search would differ.
    """
    one = decoder_case(*pair)
    one.injected()
    batch = one.batch(left=True)
    with torch.no_grad():
        generated = one.model.generate(
            **batch, max_new_tokens=NEW, do_sample=False, pad_token_id=3,
            output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
    texts = [
        row[-(int(mask.sum()) + NEW) :].tolist()
        for row, mask in zip(generated.sequences, batch["attention_mask"], strict=True)
    ]
    assert max(map(len, texts)) > WINDOW
    for row, forced in enumerate(one.forced(texts)):
        searched = torch.stack([step[row] for step in generated.logits])
        torch.testing.assert_close(searched, forced[-NEW - 1 : -1], rtol=0, atol=5e-5)
    with torch.no_grad():
        again = one.continuations(2, **batch)
        one.model.generation_config.use_cache = False
        assert torch.equal(one.continuations(2, **batch), again)


@pytest.mark.parametrize("pair", pairs())
def test_in_bf16_it_answers_nearly_as_in_fp32(pair: tuple[str, str]) -> None:
    """A frozen base in bf16, what is trained in fp32, under autocast, as runs have it."""
    one = decoder_case(*pair)
    one.injected()
    exact = one.logits()
    trained = {name for name, p in one.model.named_parameters() if p.requires_grad}
    for name, parameter in one.model.named_parameters():
        if name not in trained:
            parameter.data = parameter.data.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = one.logits()
        loss: Any = one.model(**one.batch()).logits.float().square().mean()
    loss.backward()
    seen = one.batch()["attention_mask"].bool()
    apart = (rounded.float() - exact)[seen].abs().mean() / exact[seen].abs().mean()
    assert apart < 0.1
    assert all(
        p.grad is not None and p.grad.isfinite().all()
        for name, p in one.model.named_parameters()
        if name in trained
    )


@pytest.mark.parametrize("method", ["prompt", "p_tuning"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_text_keeps_its_positions_behind_a_prompt_if_asked(family: str, method: str) -> None:
    """Those of a table; and a search with a cache keeps them too."""
    one = decoder_case(method, family, text_positions="kept", num_virtual_tokens=2)
    if one.anatomy.position_embeddings is None:
        assert family not in ("opt", "gpt2")
        return
    table = one.model.get_submodule(one.anatomy.position_embeddings)
    seen: list[torch.Tensor] = []
    injection = one.injected()
    handle = table.register_forward_hook(lambda *arguments: seen.append(arguments[-1]))
    batch = one.batch(left=True)
    generated = one.continuations(1, **batch)
    handle.remove()
    injection.undo()
    first, *later = seen
    rows = table.weight[-table.weight.shape[0] + (2 if family == "opt" else 0) :]
    for row, mask in enumerate(batch["attention_mask"].bool()):
        start = int((~mask).sum())
        length = int(mask.sum())
        assert not first[row, start : start + 2].any()
        assert torch.equal(first[row, start + 2 :], rows[:length])
        for step, looked_up in enumerate(later):
            assert torch.equal(looked_up[row, -1], rows[length + step])
    assert generated.shape[1] == batch["input_ids"].shape[1] + NEW


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_of_words_is_read_as_those_words(family: str) -> None:
    """Whatever the model does between its table and its first layer, it does to both."""
    words = [7, 21, 9]
    one = decoder_case("prompt", family)
    written = one.forced([words + text for text in one.texts()])
    options = prompt.PromptOptions(num_virtual_tokens=3, init="text", init_text="x")
    one.options = options.with_tokenizer(lambda text: {"input_ids": words})
    one.inject()
    for prompted, whole in zip(one.forced(one.texts()), written, strict=True):
        torch.testing.assert_close(prompted, whole[3:], rtol=0, atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prefix_is_the_same_however_attention_is_computed(family: str) -> None:
    for method in ("prefix", "unipelt"):
        one = decoder_case(method, family)
        injection = one.injected()
        known = one.logits()
        moved = {n: p.detach().clone() for n, p in injection.parameters.items()}
        injection.undo()
        one.model.set_attn_implementation("eager")
        for name, parameter in one.inject().parameters.items():
            parameter.data.copy_(moved[name])
        torch.testing.assert_close(one.logits(), known, rtol=0, atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_and_a_prefix_in_one_model_move_the_text_behind_both(family: str) -> None:
    members = [{"name": n, "num_virtual_tokens": 2} for n in ("prefix", "prompt")]
    seen: list[torch.Tensor] = []
    for methods in (members, members[::-1]):
        one = decoder_case("stack", family, methods=methods)
        one.injected()
        reader = one.model.get_submodule(one.anatomy.text_reader)
        reader.register_forward_pre_hook(
            lambda module, args, kwargs: seen.append(kwargs["position_ids"]), with_kwargs=True
        )
        texts = [row.tolist() for row in one.continuations(1, **one.batch(rows=1))]
        assert [int(p[0, 0]) for p in seen] == [
            2,
            *range(len(texts[0]) - NEW + 4, len(texts[0]) + 3),
        ]
        assert int(seen[0][0, -1]) == len(texts[0]) - NEW + 3
        seen.clear()


@pytest.mark.parametrize("family", FAMILIES)
def test_ia3_scales_keys_and_values_and_no_query(family: str) -> None:
    """Where one layer makes all three: fewer keys in Phi-3, head by head in GPT-NeoX."""
    one = decoder_case("ia3", family)
    injection = one.inject()
    attention = one.anatomy.layers[0].self_attention
    inner = get_linear(one.model, one.anatomy.layers[0].down).in_features
    keys = get_linear(one.model, attention.key).out_features
    if attention.fused_output is not None:
        (scale,) = (injection.adapters[attention.query],)
        assert isinstance(scale, ia3.Scale)
        width = get_linear(one.model, attention.output).in_features
        assert scale.factors().shape == (keys,)
        scale.l.data.fill_(2.0)
        output = one.model.get_submodule(attention.query)(torch.ones(1, 1, 32))
        injection.undo()
        plain = one.model.get_submodule(attention.query)(torch.ones(1, 1, 32))
        heads = one.model.config.num_attention_heads
        ratios = (output / plain)[0, 0]
        queries = ratios[:width]
        if family == "gpt_neox":
            queries = ratios.view(heads, 3, -1)[:, 0].flatten()
        assert torch.allclose(queries, torch.ones_like(queries))
        assert int((ratios > 1.5).sum()) == keys - width
        keys = (keys - width) // 2
    count = one.method.count_parameters(one.model, one.anatomy, one.options)
    assert count == len(one.anatomy.layers) * (2 * keys + inner)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_normalisation_is_found(family: str) -> None:
    """The last one too, those of queries and keys, and Gemma's around each part."""
    one = decoder_case("layer_norm", family)
    norms = layer_norm.find_norms(one.model, one.anatomy)
    of_layer = {"qwen3": 4, "gemma2": 4, "gemma3": 6}.get(family, 2)
    assert len(norms) == 2 * of_layer + 1
    assert {type(norm).__name__.rpartition("Norm")[1] for norm in norms.values()} == {"Norm"}


@pytest.mark.parametrize("family", FAMILIES)
def test_updates_stand_beside_all_linear_layers(family: str) -> None:
    """By default; and not beside the LM head, which is the checkpoint's own."""
    one = decoder_case("lora", family)
    inside = [n for layer in one.anatomy.layers for n in one.anatomy.linear_layers
              if n.startswith(f"{layer.name}.")]  # fmt: skip
    assert sorted(one.inject().adapters) == sorted(inside)
    assert lora.LoraOptions().target_modules is None


def test_fused_projections_have_all_roles() -> None:
    for family, name in (("phi3", "qkv_proj"), ("gpt2", "c_attn"), ("gpt_neox", "query_key_value")):
        for role in ("query", "key", "value"):
            one = decoder_case("lora", family, target_modules=[role])
            assert {n.rpartition(".")[2] for n in one.inject().adapters} == {name}
