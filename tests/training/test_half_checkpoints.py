"""A checkpoint in half precision is opened in it, whatever its weights are then held in."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from paretune.models.load import checkpoint_dtype
from paretune.models.weight_storage import WeightStorage, stored_bytes
from paretune.planning.predicted_cost import CostPredictor
from paretune.preparation import ProcessCache
from paretune.study import ModelSpec
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.testing.translator_folders import tiny_marian, tiny_pairs


@pytest.fixture
def opened_in(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """The dtypes in which models are opened from now on."""
    dtypes: list[Any] = []
    opening = PreTrainedModel.from_pretrained.__func__  # type: ignore[attr-defined]

    def noting(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("device_map") != "meta":  # an outline is read from no file
            dtypes.append(kwargs["dtype"])
        return opening(cls, *args, **kwargs)

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(noting))
    return dtypes


def halved(folder: Path, dtype: torch.dtype, but: str = "") -> Path:
    """The same folder with all tensors but one in this dtype."""
    path = folder / "model.safetensors"
    tensors = {n: t.clone() for n, t in load_file(path).items()}
    cast = {n: t.to(dtype) for n, t in tensors.items() if t.is_floating_point() and n != but}
    save_file(tensors | cast, path, metadata={"format": "pt"})
    return folder


def as_if_from_fp32(folder: Path, task: Any) -> dict[str, torch.Tensor]:
    """The tensors of the base, held in bf16, of the same numbers in a checkpoint in fp32."""
    wide_folder = folder.with_name(f"{folder.name}-wide")
    shutil.copytree(folder, wide_folder)
    bench, spec = ProcessCache(), ModelSpec(name=str(halved(wide_folder, torch.float32)))
    wide = bench.model(spec, bench.dataset(task))
    matrices = {f"{name}.weight" for name in wide.anatomy.linear_layers}
    named = (*wide.model.named_parameters(), *wide.model.named_buffers())
    return {
        n: t.bfloat16() if n in matrices else t.clone()
        for n, t in named
        if n not in wide.head_parameters
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "deberta-v2", "electra"])
def test_the_same_bits_without_passing_through_fp32(
    family: str, dtype: torch.dtype, tmp_path: Path, tiny_model: Any, opened_in: list[torch.dtype]
) -> None:
    folder = halved(tiny_model(family, tmp_path / family), dtype)
    task, bench, spec = tiny_task(tmp_path / "data"), ProcessCache(), ModelSpec(name=str(folder))
    expected = as_if_from_fp32(folder, task)
    opened_in.clear()
    in_bf16 = bench.model(spec, bench.dataset(task), bf16=True)
    assert opened_in == [dtype]
    named = dict((*in_bf16.model.named_parameters(), *in_bf16.model.named_buffers()))
    assert {*named} == {*expected, *in_bf16.head_parameters}
    for name, tensor in expected.items():
        assert named[name].dtype == tensor.dtype and torch.equal(named[name], tensor), name
    assert {named[name].dtype for name in in_bf16.head_parameters} == {torch.float32}
    bytes_ = sum(p.numel() * p.element_size() for p in in_bf16.model.parameters())
    outline = bench.outline(spec, bench.dataset(task))
    assert bytes_ == stored_bytes(outline.model, outline.anatomy, WeightStorage(bf16=True))


def test_a_checkpoint_of_two_precisions_keeps_the_finer(
    tmp_path: Path, tiny_model: Any, opened_in: list[torch.dtype]
) -> None:
    folder = tiny_model("bert", tmp_path / "bert")
    names = load_file(folder / "model.safetensors")
    norm = next(name for name in names if name.endswith("embeddings.LayerNorm.weight"))
    halved(folder, torch.bfloat16, but=norm)
    bench, task = ProcessCache(), tiny_task(tmp_path / "data")
    in_bf16 = bench.model(ModelSpec(name=str(folder)), bench.dataset(task), bf16=True)
    assert opened_in == [torch.float32]
    assert any(torch.equal(names[norm], p) for p in in_bf16.model.parameters())


def test_sines_that_a_model_computes_are_those_of_fp32(
    tmp_path: Path, opened_in: list[torch.dtype]
) -> None:
    folder = halved(tiny_marian(tmp_path / "marian"), torch.bfloat16)
    task, bench = tiny_pairs(tmp_path / "data"), ProcessCache()
    expected = as_if_from_fp32(folder, task)
    in_bf16 = bench.model(ModelSpec(name=str(folder)), bench.dataset(task), bf16=True)
    assert checkpoint_dtype(bench.source(ModelSpec(name=str(folder)))) == torch.bfloat16
    for name, tensor in in_bf16.model.named_parameters():
        assert torch.equal(tensor, expected[name]), name
    words = in_bf16.model.get_input_embeddings().weight
    assert in_bf16.model.get_output_embeddings().weight is words and words.dtype == torch.float32


@pytest.mark.parametrize("family", ["bert", "marian"])
def test_without_bf16_all_is_fp32(
    family: str, tmp_path: Path, tiny_model: Any, opened_in: list[torch.dtype]
) -> None:
    if family == "marian":
        folder, task = tiny_marian(tmp_path / family), tiny_pairs(tmp_path / "data")
    else:
        folder, task = tiny_model(family, tmp_path / family), tiny_task(tmp_path / "data")
    halved(folder, torch.bfloat16)
    bench = ProcessCache()
    wide = bench.model(ModelSpec(name=str(folder)), bench.dataset(task))
    assert opened_in == [torch.bfloat16]
    assert {p.dtype for p in wide.model.parameters()} == {torch.float32}
    plain = type(wide.model).from_pretrained(folder, dtype=torch.float32)
    for name, tensor in plain.state_dict().items():
        if name not in wide.head_parameters:
            assert torch.equal(wide.model.state_dict()[name], tensor), name


@pytest.mark.parametrize(("method", "is_held"), [("lora", True), ("full", False)])
def test_what_is_predicted_of_a_base_held_in_bf16(
    method: str, is_held: bool, tmp_path: Path, tiny_model: Any
) -> None:
    run = tiny_run(tiny_task(tmp_path / "data"), tiny_model("bert"), method)
    half = run.training.model_copy(update={"precision": "bf16"})
    predictor = CostPredictor(ProcessCache())
    wide = predictor.predict_work(run).held_bytes
    held_bytes = predictor.predict_work(run.model_copy(update={"training": half})).held_bytes
    loaded = predictor.caches.outline(run.model, predictor.caches.dataset(run.task))
    names = loaded.anatomy.linear_layers if is_held else ()
    matrices = sum(loaded.model.get_submodule(name).weight.numel() for name in names)
    assert wide - held_bytes == 2 * matrices
