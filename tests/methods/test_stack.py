"""Methods in one model: what each adds, at which pace, in which order, and what does not go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from paretune import methods
from paretune.errors import MethodError
from paretune.methods import bitfit, layer_norm, prompt, stack
from paretune.methods.core.options import parse_options
from paretune.models.structure.topology import ENCODER
from paretune.objectives.encoding import pad_batch
from paretune.planning.expand import choose_learning_rates
from paretune.study import MethodSpec
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.training.caches import ProcessCache
from paretune.training.prepare import PreparedModel, prepare


@pytest.fixture
def prepared(tiny_model: Any, tmp_path: Path) -> Any:
    def make(*members: Any, family: str = "bert", kind: str = "pair") -> tuple[PreparedModel, Any]:
        options = {"methods": list(members)}
        task = tiny_task(tmp_path / kind, kind)
        run = tiny_run(task, tiny_model(family), "stack", options=options)
        bench = ProcessCache()
        loaded = bench.model(run.model, bench.dataset(task))
        source = bench.source(run.model)
        encoded = bench.encode(bench.parts(run).train, loaded, source, 40)
        batch = {n: torch.from_numpy(v) for n, v in pad_batch(encoded, list(range(6)), 0).items()}
        stacked = prepare(run, loaded)
        loaded.model.eval()
        return stacked, batch

    return make


def unsettle(prepared: PreparedModel) -> None:
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in prepared.injection.parameters.values():
            parameter += 0.2 * torch.randn_like(parameter)


def test_members_keep_their_own_tensors_and_starts(prepared: Any, tiny_model: Any) -> None:
    stacked, _ = prepared({"name": "lora", "rank": 2}, "prefix", "bitfit")
    kinds = {name.rsplit(".", 2)[1] for name in stacked.injection.parameters}
    assert kinds == {"lora", "prefix", "bitfit"}
    alone, _ = prepared({"name": "lora", "rank": 2}, "ia3")
    for name, parameter in alone.injection.parameters.items():
        if ".lora." in name:  # what a member draws does not depend on its neighbours
            assert torch.equal(parameter, stacked.injection.parameters[name])


@pytest.mark.parametrize(
    "members", [("lora", "ia3"), ("ia3", "lora"), ("bitfit", "ia3", "loha"), ("dora", "bitfit")]
)
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_merged_in_order_it_answers_the_same(
    prepared: Any, members: tuple[str, ...], family: str
) -> None:
    stacked, batch = prepared(*members, family=family)
    unsettle(stacked)
    model = stacked.loaded.model
    with torch.no_grad():
        before = model(**batch).logits
        stack.merge(model, stacked.injection)
        after = model(**batch).logits
    torch.testing.assert_close(after, before, rtol=0, atol=1e-4)
    assert not [n for n in stacked.injection.parameters if n in dict(model.named_parameters())]


def test_an_adapter_reads_the_norm_that_another_member_trains(prepared: Any) -> None:
    stacked, batch = prepared("pfeiffer", "layer_norm")
    unsettle(stacked)
    with torch.no_grad():
        before = stacked.loaded.model(**batch).logits
        (_, injection) = stacked.injection.members[1]
        layer_norm.merge(stacked.loaded.model, injection)  # only the norms; the adapter stays
        after = stacked.loaded.model(**batch).logits
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


def test_the_second_adapter_reads_what_the_first_gives(prepared: Any) -> None:
    small = {"reduction_factor": 8}
    stacked, _ = prepared(
        {"name": "pfeiffer", **small}, {"name": "adapterdrop", "drop": 0, **small}
    )
    unsettle(stacked)
    layer = stacked.loaded.anatomy.layers[0]
    norm = stacked.loaded.model.get_submodule(layer.output_norm)
    first, second = (injection.adapters[layer.down] for _, injection in stacked.injection.members)
    before = torch.randn(2, 3, 32)
    between = before + first.compute_change(norm.forward(before))
    changed = between + second.compute_change(norm.forward(between))
    assert torch.equal(norm(before), norm.forward(changed))


def test_what_does_not_merge_says_so_and_stays(prepared: Any) -> None:
    stacked, batch = prepared("lora", "houlsby")
    unsettle(stacked)
    before = stacked.loaded.model(**batch).logits
    with pytest.raises(MethodError, match="houlsby cannot be merged"):
        stack.merge(stacked.loaded.model, stacked.injection)
    assert torch.equal(stacked.loaded.model(**batch).logits, before)


def test_every_member_learns_at_its_own_pace(prepared: Any) -> None:
    stacked, _ = prepared({"name": "lora", "loraplus_lr_ratio": 4.0}, "prompt", "bitfit")
    paces = {
        name.rsplit(".", 2)[-2] + name[-2:]: stacked.injection.learning_rate_factors.get(name, 1.0)
        for name in stacked.injection.parameters
    }
    assert paces == {"lora.A": 1.0, "lora.B": 4.0, "virtual_prompt.P": 10.0, "bitfitas": 1.0}
    spec = MethodSpec(name="stack", methods=["prompt", "lora"])  # type: ignore[call-arg]
    configured = methods.configure_method(spec)
    assert (
        choose_learning_rates(spec, configured.learning_rates(ENCODER), 3)
        == prompt.METHOD.learning_rates
    )


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        (["lora"], "at least two"),
        (["lora", {"name": "lora", "rank": 4}], "lora is named twice and stands in all layers"),
        (["lora", "full"], "full: it trains everything already"),
        (["prompt", "p_tuning"], "both put virtual tokens before the text"),
        (["lora", "dora"], "dora has to come first"),
        (["lora", "tfidf"], "tfidf trains no model"),
        (["lora", "lara"], '"lara" is not known'),
        (["lora"] * 10_000, "10000 methods; 20 are the most"),
        (["lora", "peft:vera"], "peft:vera: it takes the place of layers that others stand besid"),
        (["lora", {"name": "prompt", "rank": 3}], 'prompt: unknown key "rank"'),
        (["lora", 3], "is not a method"),
    ],
)
def test_what_does_not_go_together_is_refused(members: list[Any], reason: str) -> None:
    with pytest.raises(MethodError, match=reason):
        stack.configure_members(parse_options("stack", stack.StackOptions, {"methods": members}))


LOWER, UPPER = {"name": "lora", "rank": 2, "layers": "0"}, {"name": "lora", "layers": "upper:1"}


def test_one_method_twice_in_layers_of_their_own(prepared: Any) -> None:
    stacked, batch = prepared(LOWER, UPPER, "ia3")
    ranks = {n[: n.index(".attention")]: p.shape[0] for n, p in stacked.injection.parameters.items()
             if n.endswith(".lora.A")}  # fmt: skip
    assert sorted(ranks.values()) == [2, 8]
    configured, anatomy = stacked.method, stacked.loaded.anatomy
    size = sum(p.numel() for p in stacked.injection.parameters.values())
    assert configured.count_parameters(stacked.loaded.model, anatomy) == size
    unsettle(stacked)
    with torch.no_grad():
        before = stacked.loaded.model(**batch).logits
        stack.merge(stacked.loaded.model, stacked.injection)
        after = stacked.loaded.model(**batch).logits
    torch.testing.assert_close(after, before, rtol=0, atol=1e-4)


def test_one_method_twice_in_one_layer_is_refused(prepared: Any) -> None:
    with pytest.raises(MethodError, match="lora is named twice for layer 1 "):
        prepared({**LOWER, "layers": "0-1"}, UPPER)
    with pytest.raises(MethodError, match="which has 2 layers"):
        prepared(LOWER, {**UPPER, "layers": "upper:3"})


def test_dora_may_come_first_twice(prepared: Any) -> None:
    members = [{**LOWER, "name": "dora"}, {**UPPER, "name": "dora"}, "bitfit"]
    stacked, _ = prepared(*members)
    assert len(stacked.injection.members) == 3


def test_a_member_that_is_refused_leaves_no_trace(prepared: Any, tiny_model: Any) -> None:
    with pytest.raises(MethodError, match="has no biases"):
        prepared("lora", "bitfit", family="modernbert")


def test_prompts_and_prefixes_share_a_multiple_choice_model(prepared: Any) -> None:
    stacked, batch = prepared("prompt", "prefix", kind="multiple_choice")
    logits = stacked.loaded.model(**batch).logits
    assert logits.shape == (6, 2)
    nn.functional.cross_entropy(logits, torch.zeros(6, dtype=torch.long)).backward()
    for parameter in stacked.injection.parameters.values():
        assert parameter.grad is not None and parameter.grad.any()


def test_a_stack_is_another_run_when_a_members_code_has_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = MethodSpec.model_validate({"name": "stack", "methods": ["lora", "bitfit"]})
    before = methods.configure(spec).code_epoch
    newer = replace(bitfit.METHOD, code_epoch=bitfit.METHOD.code_epoch + 1)
    monkeypatch.setattr(bitfit, "METHOD", newer)
    assert methods.configure(spec).code_epoch == before + 1
