"""Which layers a method stands beside, and at which rank: PEFT's options, resolved as PEFT does."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import test_contract
from support.chosen import chosen

from paretune import methods
from paretune.errors import MethodError
from paretune.methods.core.low_rank import find_modules_to_save
from paretune.methods.core.options import parse_options
from paretune.models.load import LoadedModel
from paretune.preparation import ProcessCache
from paretune.testing.method_walk import Walk, walk_of, walked
from paretune.training.prepare import prepare

PATTERNS = {
    "rank": 3,
    "alpha": 5.0,
    "target_modules": ["all_linear"],
    "exclude_modules": ["feed_forward_down"],
    "rank_pattern": {r"layers?\.0\..*": 2, "query": 1},
    "alpha_pattern": {"value": 2.5, r"layers?\.1\..*key": 1},
}
REGEX = {"rank": 2, "target_modules": r".*\.(query|value)", "layers_to_transform": [1]}
PLACES = [
    *((method, PATTERNS, "bert", "pair") for method in ("lora", "dora", "loha", "lokr")),
    *((method, REGEX, "bert", "multiple_choice") for method in ("lora", "dora", "loha", "lokr")),
    ("lora", {**PATTERNS, "use_rslora": True}, "roberta", "pair"),
    ("lora", {"rank": 2, "rank_pattern": {r"decoder\..*": 4}}, "marian", "translation"),
    ("lora", {"rank": 2, "layers_to_transform": 1}, "modernbert", "classification"),
    ("lora", {"rank": 2, "modules_to_save": ["embeddings"]}, "bert", "pair"),
    ("dora", {"rank": 2, "modules_to_save": ["layer.1", "classifier"]}, "bert", "pair"),
    ("loha", {"rank": 2, "modules_to_save": "output.LayerNorm"}, "roberta", "multiple_choice"),
    ("lokr", {"rank": 2, "modules_to_save": ["embeddings"]}, "modernbert", "classification"),
    (
        "lora",
        {"rank": 2, "modules_to_save": ["encoder.layers.1.fc1", "final_layer_norm"]},
        "marian",
        "translation",
    ),
]


@pytest.fixture(scope="module")
def bench() -> ProcessCache:
    return ProcessCache()


WALKS = [pytest.param(p, id=f"{p[0]}-{'-'.join(sorted(p[1]))}-{p[2]}") for p in PLACES]


class TestTargeted(test_contract.TestMethods):
    """The clauses of the contract; their tensors without effect are those of the plain methods."""

    test_gradients_are_those_of_finite_differences = None  # type: ignore[assignment]
    test_without_effect_it_is_the_base = None  # type: ignore[assignment]

    @pytest.fixture(scope="module", params=chosen(WALKS, 3))
    @classmethod
    def walk(
        cls, request: pytest.FixtureRequest, bench: ProcessCache, checkpoint: Any,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Walk:  # fmt: skip
        method, options, family, kind = request.param
        folder = tmp_path_factory.mktemp("walk")
        return walked(walk_of(method, kind, checkpoint(family), folder, options), bench, folder)


def loaded_of(bench: ProcessCache, checkpoint: Any, family: str, folder: Path) -> LoadedModel:
    run = walk_of("lora", "pair", checkpoint(family), folder)
    return bench.model(run.model, bench.dataset(run.task))


ASKED = [
    {"target_modules": ["query", "dense"]},
    {"target_modules": ["attention.self.query", "output.dense"]},
    {"target_modules": r".*layer\.[12]\..*(query|key)"},
    {"target_modules": r".*\.query|.*\.dense", "exclude_modules": r".*\.1\..*"},
    {"target_modules": ["query", "value"], "exclude_modules": ["0.attention.self.query"]},
    {"target_modules": ["query", "dense"], "layers_to_transform": [1]},
    {"target_modules": ["query", "dense"], "layers_to_transform": 1},
    {"target_modules": ["query", "value"], "rank_pattern": {"query": 2, "layer.0.*": 5}},
    {"target_modules": ["query", "value"], "rank_pattern": {"layer.0.*": 5, "query": 2}},
    {"target_modules": ["query"], "alpha_pattern": {r".*\.1\.attention\.self\.query": 7}},
    {
        "target_modules": ["query", "value"],
        "rank_pattern": {"uery|value": 2},
        "alpha_pattern": {"self.value": 3},
    },
]
CONFIGS: dict[str, tuple[Any, str]] = {
    "lora": (peft.LoraConfig, "lora_alpha"),
    "loha": (peft.LoHaConfig, "alpha"),
    "lokr": (peft.LoKrConfig, "alpha"),
}


@pytest.mark.parametrize("changes", ASKED, ids=str)
@pytest.mark.parametrize("method", CONFIGS)
def test_layers_ranks_and_alphas_are_those_of_peft(
    method: str, changes: dict[str, Any], bench: ProcessCache, checkpoint: Any, tmp_path: Path
) -> None:
    """PEFT is given the same options; what it wraps in the head is the head's, which we train."""
    loaded = loaded_of(bench, checkpoint, "bert", tmp_path)
    options = parse_options(method, methods.get(method).options, {"rank": 4, "alpha": 6, **changes})
    ours = {
        n: (options.for_layer(n).rank, options.for_layer(n).scaling)
        for n in options.select_layers(loaded.anatomy)
    }
    config, alpha = CONFIGS[method]
    if "layers_to_transform" in changes:
        changes = {**changes, "layers_pattern": "layer"}
    theirs = peft.get_peft_model(
        copy.deepcopy(loaded.model),
        config(r=4, **{alpha: 6}, modules_to_save=list(loaded.anatomy.head_modules), **changes),
    )
    in_peft = {
        name: (module.r["default"], module.scaling["default"])
        for name, module in theirs.base_model.model.named_modules()
        if hasattr(module, "scaling") and isinstance(module.scaling, dict)
    }
    assert ours == in_peft and ours


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_modules": r"(query"}, '"(query" is no regular expression'),
        ({"target_modules": "query.*"}, '"query.*" matches the whole name of no linear layer'),
        ({"target_modules": "qery"}, 'target_modules: "qery" matches no linear layer'),
        ({"exclude_modules": ["qery"]}, 'exclude_modules: "qery" matches no linear layer'),
        ({"exclude_modules": ["key"]}, "exclude_modules: none of them is among the target_mod"),
        ({"exclude_modules": ["query", "value"]}, "no layer is left to stand beside"),
        ({"exclude_modules": 3}, "option exclude_modules: 3 is not a text"),
        ({"layers_to_transform": [99]}, "[99] are no layers; the model has 0 to"),
        ({"layers_to_transform": -1}, "layers_to_transform: -1 is less than 0"),
        ({"layers_to_transform": [True]}, "layers_to_transform.0: true is not a whole number"),
        ({"layers_to_transform": []}, "layers_to_transform: is empty"),
        ({"rank_pattern": {"qery": 2}}, 'rank_pattern: "qery" matches none of the layers'),
        ({"rank_pattern": {"query": 0}}, "rank_pattern.query: 0 is less than 1"),
        ({"rank_pattern": {"query": 2.5}}, "query: 2.5 is not a whole number"),
        ({"rank_pattern": {"(": 2}}, '"(" is no regular expression'),
        ({"rank_pattern": 3}, "rank_pattern: 3 is not a group of keys and values"),
        ({"alpha_pattern": {"query": True}}, "alpha_pattern.query: true is not a number"),
        ({"layers_pattern": "layer"}, "layers_to_transform counts the layers of every arch"),
        ({"bias": "all"}, "take a stack of lora and bitfit"),
    ],
)
def test_what_means_nothing_is_told(
    options: dict[str, Any], message: str, bench: ProcessCache, checkpoint: Any, tmp_path: Path
) -> None:
    loaded = loaded_of(bench, checkpoint, "bert", tmp_path)
    with pytest.raises(MethodError) as caught:
        parse_options("lora", methods.get("lora").options, options).select_layers(loaded.anatomy)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("family", "modules", "message"),
    [
        ("bert", ["embedings"], '"embedings" matches no module with weights'),
        ("bert", ["dropout"], '"dropout" matches no module with weights'),
        ("marian", ["embeddings"], "has weights that model."),
        ("bert", ["encoder"], "no layer is left to stand beside"),
        ("marian", ["lm_head"], "lm_head has weights that model."),
    ],
)
def test_what_cannot_be_trained_in_full_is_told(
    family: str,
    modules: list[str],
    message: str,
    bench: ProcessCache,
    checkpoint: Any,
    tmp_path: Path,
) -> None:
    kind = "translation" if family == "marian" else "pair"
    options = {"modules_to_save": modules}
    run = walk_of("lora", kind, checkpoint(family), tmp_path, options)
    loaded = bench.model(run.model, bench.dataset(run.task))
    before = dict(loaded.model.named_parameters())
    with pytest.raises(MethodError) as caught:
        prepare(run, loaded)
    assert message in str(caught.value)
    assert dict(loaded.model.named_parameters()).keys() == before.keys()


def test_the_head_is_trained_anyway(bench: ProcessCache, checkpoint: Any, tmp_path: Path) -> None:
    loaded = loaded_of(bench, checkpoint, "bert", tmp_path)
    assert find_modules_to_save(loaded.model, loaded.anatomy, ["classifier", "pooler"]) == []
    modules = find_modules_to_save(loaded.model, loaded.anatomy, ["layer.0", "layer.0.attention"])
    assert modules == ["bert.encoder.layer.0"]
