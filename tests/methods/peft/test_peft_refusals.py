"""``peft:<name>``: what is refused, in whose words, and a study that compares one with ours."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from support.tiny_study import finish, small
from test_peft_tuners import SMALL, peft_run

import paretune
from paretune import methods, objectives
from paretune.errors import MethodError
from paretune.methods.core.options import parse_options
from paretune.methods.peft import tuner_methods
from paretune.methods.peft.supported import SUPPORTED
from paretune.models.load import load_model
from paretune.models.pass_context import PassContext
from paretune.models.sources.resolve import resolve_source
from paretune.study import ModelSpec
from paretune.training.prepare import prepare


@pytest.fixture
def loaded(tiny_model: Any) -> Any:
    return load_model(
        resolve_source(ModelSpec(name=str(tiny_model("bert")))),
        objectives.get("pair").head_spec(("a", "b", "c")),
    )


def parsed(tuner: str, **options: Any) -> tuple[Any, Any]:
    method = methods.get(f"peft:{tuner}")
    return method, parse_options(method.name, method.options, options)


def test_another_peft_may_have_more_or_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {kind.value.lower(): kind for kind in PEFT_TYPE_TO_CONFIG_MAPPING}
    tuner_methods.make_method.cache_clear()
    monkeypatch.delitem(PEFT_TYPE_TO_CONFIG_MAPPING, kinds["vera"])
    newer = Enum("newer", {"NEWER": "NEWER"}).NEWER  # type: ignore[attr-defined]
    monkeypatch.setitem(PEFT_TYPE_TO_CONFIG_MAPPING, newer, peft.VeraConfig)
    with pytest.raises(MethodError, match=r'"peft:vera" is not known \(peft .* is installed\)'):
        methods.get("peft:vera")
    with pytest.raises(MethodError, match=r'"peft:newer" is not known to this paretune'):
        methods.get("peft:newer")


@pytest.mark.parametrize(
    ("tuner", "options", "message"),
    [
        ("vera", {"rank": 8}, r'unknown key "rank": write r\.'),
        ("vera", {"r": "8"}, r'option r: "8" is not a whole number'),
        ("vera", {"r": True}, "true is not a whole number"),
        ("vera", {"modules_to_save": ["classifier"]}, "the whole head is trained"),
        ("vera", {"bias": "all"}, "bitfit does that"),
        ("vera", {"target_modules": []}, "target_modules: is empty"),
        ("lora", {"init_lora_weights": "eva"}, "eva: it starts from gradients or activations"),
        ("lora", {"init_lora_weights": "nonsense"}, "true nor false, .* is not one of gaussian"),
        ("lora", {"rank_pattern": {"query": 2.5, 3: 4}}, None),
        ("adamss", {"use_asa": True}, "wants a call after every step"),
        ("psoft", {"psoft_svd": "half"}, '"half" is not one of full, lowrank'),
    ],
)
def test_options_that_cannot_be_are_refused(
    tuner: str, options: dict[str, Any], message: str | None
) -> None:
    if message is None:
        parsed(tuner, **options)
        return
    with pytest.raises(MethodError, match=message):
        parsed(tuner, **options)


@pytest.mark.parametrize(
    ("tuner", "options", "message"),
    [
        ("lora", {"r": 0}, "peft says: `r` should be a positive integer"),
        ("c3a", {"block_size": 7}, "peft says: .*block"),
        ("vera", {"target_modules": ["nothing"]}, '"nothing" matches no linear layer'),
        ("ln_tuning", {"target_modules": ["query"]}, '"query" matches no normalisation'),
        ("vera", {"layers_to_transform": [2]}, "the model has 0 to 1"),
        ("trainable_tokens", {}, "trains nothing without token_indices"),
        ("boft", {"boft_block_num": 4}, "peft says: You can only specify either"),
        ("lora", {"rank_pattern": {"nothing": 4}}, "rank_pattern keys did not match any"),
        ("lora", {"exclude_modules": ["nothing"]}, "no modules were excluded"),
        ("lora", {"exclude_modules": ["query", "value"]}, "All modules were excluded|No modules"),
    ],
)
def test_what_peft_refuses_leaves_the_model_as_it_was(
    tuner: str, options: dict[str, Any], message: str, loaded: Any
) -> None:
    method, checked = parsed(tuner, **{**SMALL.get(tuner, {}), **options})
    if tuner == "trainable_tokens":
        method, checked = parsed(tuner)
    modules, pristine = dict(loaded.model.named_modules()), loaded.backbone_digest()
    with pytest.raises(MethodError, match=message) as refusal:
        method.inject(loaded.model, loaded.anatomy, checked, PassContext(), 1)
    assert f"peft:{tuner}" in refusal.value.where or "target_modules" in refusal.value.what
    assert dict(loaded.model.named_modules()) == modules and loaded.backbone_digest() == pristine


def test_a_tuner_is_no_member_of_a_stack(loaded: Any) -> None:
    stack = methods.get("stack")
    options = parse_options("stack", stack.options, {"methods": ["lora", "peft:vera"]})
    with pytest.raises(MethodError, match="takes the place of layers"):
        stack.inject(loaded.model, loaded.anatomy, options, PassContext(), 1)


@pytest.mark.parametrize("tuner", ["lora", "unilora", "vblora"])
def test_the_draw_depends_on_the_seed_alone(tuner: str, loaded: Any) -> None:
    method, checked = parsed(tuner, **SMALL.get(tuner, {}))

    def drawn(seed: int) -> list[torch.Tensor]:
        torch.rand(seed)  # whatever ran before
        injection = method.inject(loaded.model, loaded.anatomy, checked, PassContext(), seed)
        layers = [p.detach().clone() for p in injection.parameters.values()]
        injection.undo()
        return layers

    first, second, again = drawn(1), drawn(2), drawn(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_head_may_learn_at_its_own_pace(tiny_model: Any, tmp_path: Path) -> None:
    run = peft_run(tmp_path, tiny_model("bert"), "c3a")
    loaded = load_model(
        resolve_source(run.model), objectives.get("pair").head_spec(("a", "b", "c"))
    )
    prepared = prepare(run, loaded)
    factors = prepared.injection.learning_rate_factors
    assert {factors.get(name) for name in prepared.head} == {
        SUPPORTED["c3a"].head_learning_rate_factor
    }
    assert not set(factors) & set(prepared.injection.parameters)


def test_a_study_compares_one_with_ours(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checked, planned, run, reported and exported; the store knows it by its full name."""
    monkeypatch.chdir(tmp_path)
    study = small(
        tmp_path,
        tiny_model("bert"),
        methods=[{"name": "lora", "rank": 2}, {"name": "peft:vera", "r": 8}],
        protocol={"trials": 2, "folds": 1, "seeds": [1]},
    )
    checked = paretune.check(study)
    assert not checked.errors
    descriptions = {seen.name: seen.description for seen in checked.items}
    assert descriptions["peft:vera"] == "VeRA (peft), learning rates 0.003, 0.03"
    assert "method + " in descriptions["words x tiny x peft:vera"]
    assert paretune.plan(study, store=tmp_path / "store") is not None
    finish(study, tmp_path / "store", costs=0).close()
    rows = paretune.report(study, store=tmp_path / "store").tasks[0].methods
    assert {"lora", "peft:vera"} <= {row.method for row in rows}
    # Two steps: whether it has learnt something is no matter here.
    options: dict[str, Any] = {"store": tmp_path / "store", "allow_collapsed": True}
    done = paretune.export(study, **options, method="peft:vera")
    assert done.folder == Path("exports", "small", "words-tiny-peft+vera")
    assert done.form == "peft" and done.largest_difference < 1e-5
    assert "VeRA (peft) for words" in done.card
