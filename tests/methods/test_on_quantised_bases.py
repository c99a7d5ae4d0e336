"""Methods on quantised bases: the contract of those that leave the base alone, refusals of others.

By default a share of the methods walks on each; ``make guarantees`` walks the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.chosen import chosen
from support.method_contract import METHODS, OwnMethodContract

from paretune import methods
from paretune.errors import MethodError, MissingDependencyError
from paretune.exporting import formats
from paretune.models.quantised import QuantisedLinear, is_quantised, require_backend
from paretune.planning.prepare import refuse_training
from paretune.preparation import ProcessCache
from paretune.study import MethodSpec, ModelSpec, Run
from paretune.study.specs import Quantisation
from paretune.testing.method_walk import Walk, select_logits, walk_of, walked
from paretune.training.trainer import train_run


def require(quantisation: Quantisation) -> None:
    try:
        require_backend(quantisation, "test")
    except MissingDependencyError as error:
        pytest.skip(str(error))


def quantised(run: Run, quantisation: Quantisation) -> Run:
    return run.model_copy(
        update={"model": run.model.model_copy(update={"quantisation": quantisation})}
    )


def trains_on_quantised(name: str) -> bool:
    method = methods.get(name)
    assert isinstance(method, methods.Method)
    return not method.cannot_train_quantised(method.options())


PLACES: tuple[tuple[Quantisation, str], ...] = (("nf4", "llama"), ("int8", "bert"))
WALKS = [
    pytest.param((name, quantisation, family), id=f"{name}-{quantisation}-{family}")
    for name in METHODS
    for quantisation, family in PLACES
    if name not in ("full", "setfit", "untuned") and (name, family) != ("bitfit", "llama")
]


class TestQuantised(OwnMethodContract):
    """The clauses of the contract, on a base whose linear layers are quantised."""

    @pytest.fixture(scope="module", params=chosen(WALKS, 6))
    @classmethod
    def walk(
        cls,
        request: pytest.FixtureRequest,
        tiny_model: Callable[[str], Path],
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Walk:
        method, quantisation, family = request.param
        require(quantisation)
        folder = tmp_path_factory.mktemp("walk")
        run = quantised(walk_of(method, "classification", tiny_model(family), folder), quantisation)
        walk = walked(run, ProcessCache(), folder)
        assert is_quantised(walk.loaded().model)
        return walk

    def test_merged_equals_unmerged(self, walk: Walk, tmp_path: Path, record_property: Any) -> None:
        """What is merged is the base as it was trained on, rounded."""
        if walk.value.trains is methods.Trains.ADAPTER and walk.value.merge is None:
            pytest.skip("it cannot be merged")
        ours = walk.restored()
        source = walk.bench.source(walk.run.model)
        formats.write_merged_model(walk.run, walk.task, source, ours, tmp_path)
        assert not is_quantised(ours.loaded.model)
        opened = formats.open_export("merged", walk.task, source, tmp_path)
        batch = walk.batch(ours.loaded)
        logits = select_logits(formats.compute_logits(opened, batch), batch)
        torch.testing.assert_close(logits, walk.again, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ({"name": "full"}, "it trains every weight"),
        ({"name": "peft:lora", "init_lora_weights": "pissa"}, "init_lora_weights: pissa"),
    ],
)
def test_a_plan_refuses_what_trains_or_rewrites_quantised_weights(
    method: dict[str, Any], reason: str
) -> None:
    spec, model = MethodSpec(**method), ModelSpec(name="x/base", quantisation="nf4")
    refusal = refuse_training(spec, model)
    assert refusal is not None and refusal.where == f"method {spec.key} on model base-nf4"
    assert refusal.what.startswith(f"the model is quantised (nf4): {reason}")
    assert refuse_training(spec, ModelSpec(name="x/base")) is None
    assert refuse_training(MethodSpec(name="lora"), model) is None


def test_modules_of_quantised_layers_are_not_trained_in_full(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    for modules, is_refused in (["down_proj"], True), (["embeddings"], False):
        run = walk_of(
            "lora", "classification", tiny_model("llama"), tmp_path,
            {"rank": 2, "modules_to_save": modules},
        )  # fmt: skip
        walk = Walk("lora", quantised(run, "int8"), ProcessCache())
        if is_refused:
            with pytest.raises(MethodError, match="down_proj is quantised"):
                walk.prepared(walk.loaded())
        else:
            walk.prepared(walk.loaded()).undo()


@pytest.mark.parametrize("quantisation", ["nf4", "int8"])
def test_only_the_linear_layers_of_the_backbone_are_quantised(
    quantisation: Quantisation, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    require(quantisation)
    run = walk_of("lora", "classification", tiny_model("llama"), tmp_path)
    walk = Walk("lora", quantised(run, quantisation), ProcessCache())
    loaded = walk.loaded()
    packed = {n for n, m in loaded.model.named_modules() if isinstance(m, QuantisedLinear)}
    assert packed == {*loaded.anatomy.linear_layers}
    assert not isinstance(loaded.model.score, QuantisedLinear)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}


def test_cached_activations_are_those_of_the_base_as_it_is_held(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head above layers that never change: those of the plain base are cached beside."""
    run = walk_of("head_only", "classification", tiny_model("bert"), tmp_path / "data")
    still = run.training.model_copy(update={"dropout": 0.0})
    plain = run.model_copy(update={"training": still})
    packed = quantised(plain, "int8")

    def scores(run: Run) -> tuple[bytes, bool]:
        outcome = train_run(run, checkpoint=tmp_path / "x", caches=ProcessCache())
        return outcome.blobs["predictions"], outcome.measured["kept_activations"]

    of_plain, was_cached = scores(plain)
    assert was_cached
    with_cache = [scores(packed)[0] for _ in range(2)]  # computed, and read again
    monkeypatch.setenv("PARETUNE_TRUNK_BYTES", "0")
    without, was_cached = scores(packed)
    assert not was_cached
    assert with_cache == [without, without] and without != of_plain


@pytest.mark.parametrize("quantisation", ["nf4", "int8"])
def test_a_run_in_bf16_holds_tables_in_bf16_and_moves_no_packed_weight(
    quantisation: Quantisation, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    require(quantisation)
    run = quantised(walk_of("lora", "classification", tiny_model("gemma3"), tmp_path), quantisation)
    training = run.training.model_copy(update={"precision": "bf16"})
    run, caches = run.model_copy(update={"training": training}), ProcessCache()
    loaded = caches.model(run.model, caches.dataset(run.task), bf16=True)
    assert loaded.model.get_input_embeddings().weight.dtype == torch.bfloat16
    words = loaded.model.get_input_embeddings()
    assert words(torch.tensor([[3, 4]])).dtype == torch.float32
    before = loaded.backbone_digest()
    outcome = train_run(run, checkpoint=tmp_path / "x", caches=caches)
    assert outcome.result["outcome"] != "diverged"
    assert caches.model(run.model, caches.dataset(run.task), bf16=True) is loaded
    assert loaded.backbone_digest() == before
