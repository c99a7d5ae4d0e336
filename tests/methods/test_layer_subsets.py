"""The option ``layers``: what it may be, where a method then stands, and what it exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.method_contract import OwnMethodContract

from paretune import methods
from paretune.errors import MethodError
from paretune.methods.core.options import list_layers, parse_subset
from paretune.study import MethodSpec
from paretune.testing.method_walk import Walk, walk_of, walked
from paretune.testing.tiny_tasks import small, tiny_run, tiny_task
from paretune.testing.translator_folders import translator_folder
from paretune.training.caches import ProcessCache
from paretune.training.prepare import PreparedModel, prepare

LAYERED = tuple(
    name for name, method in methods.available().items() if "layers" in method.options.model_fields
)


def prepared_run(
    folder: Path, model: Path, method: str, options: Any, bench: ProcessCache | None = None
) -> PreparedModel:
    bench = bench or ProcessCache()
    run = tiny_run(tiny_task(folder, "pair"), model, method, options=options)
    return prepare(run, bench.model(run.model, bench.dataset(run.task)))


def test_every_method_beside_layers_has_the_option() -> None:
    names = {"lora", "dora", "loha", "lokr", "ia3", "bitfit", "layer_norm", "houlsby", "pfeiffer"}
    assert set(LAYERED) == names | {"parallel", "prefix", "mam", "unipelt"}


@pytest.mark.parametrize(
    ("subset", "written", "of_six"),
    [
        ("all", "all", (0, 1, 2, 3, 4, 5)),
        ("0-3", "0-3", (0, 1, 2, 3)),
        (3, "3", (3,)),
        ("5, 0-1", "0-1,5", (0, 1, 5)),
        ([0, 1, 2], "0-2", (0, 1, 2)),
        (["0-1", 2, "4-5"], "0-2,4-5", (0, 1, 2, 4, 5)),
        ("upper:2", "upper:2", (4, 5)),
        ("lower:1", "lower:1", (0,)),
    ],
)
def test_a_subset_is_written_in_one_way(subset: Any, written: str, of_six: tuple[int, ...]) -> None:
    assert parse_subset(subset) == written
    assert parse_subset(written) == written
    assert list_layers(written, 6) == of_six


@pytest.mark.parametrize(
    "subset",
    ["", "top", "3-1", "upper:0", "upper:2,5", "-1", True, None, [], [True], 1.5, "0-99999"],
)
def test_what_names_no_layers_is_refused(subset: Any) -> None:
    with pytest.raises(ValueError, match="names no layers"):
        parse_subset(subset)


@pytest.mark.parametrize("subset", ["0-6", "6", "upper:7", "lower:7"])
def test_a_model_must_have_the_layers(subset: str) -> None:
    with pytest.raises(MethodError, match="which has 6 layers"):
        list_layers(subset, 6)


def test_both_ways_of_naming_layers_are_refused(tiny_model: Any, tmp_path: Path) -> None:
    options = {"layers": "upper:1", "layers_to_transform": [1]}
    with pytest.raises(MethodError, match="say the same"):
        prepared_run(tmp_path, Path(tiny_model("bert")), "lora", options)


@pytest.mark.parametrize("method", LAYERED)
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_it_stands_in_these_layers_alone(
    method: str, family: str, tiny_model: Any, tmp_path: Path
) -> None:
    if (method, family) == ("bitfit", "llama"):
        pytest.skip("Llama has no biases")
    bench = ProcessCache()
    model = Path(tiny_model(family))
    whole = prepared_run(tmp_path, model, method, small(method), bench)
    everywhere = set(whole.injection.parameters)
    size = sum(p.numel() for p in whole.injection.parameters.values())
    whole.undo()
    names: list[set[str]] = []
    counts = []
    for layers in ("lower:1", "upper:1"):
        options = {**small(method), "layers": layers}
        configured = methods.configure_method(
            MethodSpec.model_validate({"name": method, **options})
        )
        counted = configured.count_parameters(whole.loaded.model, whole.loaded.anatomy)
        part = prepared_run(tmp_path, model, method, options, bench)
        anatomy = part.loaded.anatomy
        assert len(anatomy.layers) == 2
        number = 0 if layers == "lower:1" else 1
        own = part.injection.parameters
        assert own and {anatomy.find_layer(name) for name in own} == {number}
        names.append(set(own))
        counts.append(sum(p.numel() for p in own.values()))
        assert counted == counts[-1]
        part.undo()
    outside = {n for n in everywhere if anatomy.find_layer(n) is None}
    assert names[0] | names[1] == everywhere - outside and not names[0] & names[1]
    assert sum(counts) == size - sum(
        p.numel() for n, p in whole.injection.parameters.items() if n in outside
    )
    assert not outside or method in ("bitfit", "layer_norm")  # beside the embeddings


def test_layers_are_counted_through_both_stacks(tmp_path: Path) -> None:
    folder = translator_folder("marian", tmp_path / "marian")
    bench = ProcessCache()
    run = walk_of("unipelt", "translation", folder, tmp_path, {**small("unipelt"), "layers": "4"})
    prepared = Walk("unipelt", run, bench).prepared(Walk("unipelt", run, bench).copied())
    anatomy = prepared.loaded.anatomy
    assert len(anatomy.layers) == 5
    assert {anatomy.find_layer(name) for name in prepared.injection.parameters} == {4}
    gates = [m for m in prepared.loaded.model.modules() if hasattr(m, "reads")]
    assert {gate.reads for gate in gates} == {"source"}  # as with all layers: not token by token


def test_peft_is_told_the_layers(tiny_model: Any, tmp_path: Path) -> None:
    options = {"rank": 2, "layers": "upper:1", "target_modules": ["all_linear"]}
    prepared = prepared_run(tmp_path, Path(tiny_model("bert")), "lora", options)
    fields = prepared.method.options.peft_layers(prepared.injection)
    assert (fields["layers_to_transform"], fields["layers_pattern"]) == ([1], ["layer"])
    assert len(fields["target_modules"]) == 6


def test_peft_has_no_prefix_in_some_layers(tiny_model: Any) -> None:
    method = methods.configure_method(MethodSpec.model_validate({"name": "prefix", "layers": "0"}))
    reason = method.method.peft_export.refuse(method.options, None, None)  # type: ignore[arg-type]
    assert reason == "PEFT's prefix is in every layer"


@pytest.mark.slow
class TestSubsets(OwnMethodContract):
    """All clauses of the contract where a method stands in some layers."""

    @pytest.fixture(
        scope="class",
        params=[
            (method, family, kind, layers)
            for method in LAYERED
            for family, kind, layers in (
                ("bert", "pair", "upper:1"),
                ("llama", "pair", "0"),
                ("t5", "translation", "1-2"),
                ("deberta-v2", "regression", "upper:1"),
            )
            if (method, family) not in (("bitfit", "llama"), ("bitfit", "t5"))
        ],
        ids=lambda place: "-".join(place),
    )
    @classmethod
    def walk(cls, request: pytest.FixtureRequest, checkpoint: Any, tmp_path_factory: Any) -> Walk:
        method, family, kind, layers = request.param
        folder = tmp_path_factory.mktemp("walk")
        options = {**small(method), "layers": layers}
        run = walk_of(method, kind, checkpoint(family), folder, options)
        return walked(run, ProcessCache(), folder)


def test_several_prefixes_stand_in_layers_of_their_own(tiny_model: Any, tmp_path: Path) -> None:
    members = [
        {"name": "prefix", "num_virtual_tokens": 3, "layers": "0"},
        {"name": "prefix", "num_virtual_tokens": 5, "layers": "1"},
    ]
    bench = ProcessCache()
    prepared = prepared_run(
        tmp_path, Path(tiny_model("bert")), "stack", {"methods": members}, bench
    )
    lengths = [p.shape[0] for n, p in prepared.injection.parameters.items() if n.endswith(".K")]
    assert lengths == [3, 5]
    config = prepared.loaded.model.config
    assert config._attn_implementation == "paretune_sdpa"
    prepared.undo()
    assert config._attn_implementation == "sdpa"
