"""Files that a model's folder may hold, what is opened of them, and what its hash covers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.open_models import open_model

from paretune.data.example import Dataset
from paretune.errors import ModelError
from paretune.models.load import require_finite_weights
from paretune.models.sources.resolve import ModelSource, resolve_source
from paretune.preparation import ProcessCache
from paretune.study import Generation, ModelSpec
from paretune.testing.translator_folders import translator_folder


def resolved(folder: Path) -> ModelSource:
    return resolve_source(ModelSpec(name=str(folder)))


def change(file: Path, **settings: Any) -> None:
    before = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({**before, **settings}))


def as_pickle(folder: Path, **tensors: torch.Tensor) -> Path:
    """The same checkpoint as ``.bin``, with these tensors in it."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({**state, **tensors}, folder / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        {"attn_implementation": "evil-org/flash-attn"},
        {"_attn_implementation": "evil-org/flash-attn"},
        {"_attn_implementation_internal": "kernels-community/flash-attn2"},
        {"attn_implementation": "flash_attention_2"},
        {"attn_implementation": {"": "evil-org/x"}},
        {"experts_implementation": "evil-org/x"},
        {"text_config": {"attn_implementation": "evil-org/x"}},
    ],
    ids=lambda settings: json.dumps(settings)[:50],
)
@pytest.mark.parametrize("offline", [True, False])
def test_code_of_elsewhere_is_refused(
    tmp_path: Path, tiny_model: Any, settings: dict[str, Any], offline: bool
) -> None:
    """Also with ``--online``: it is native code, and no hash would cover it."""
    folder = tiny_model("bert", tmp_path / "m")
    change(folder / "config.json", **settings)
    with pytest.raises(ModelError, match="names other code to compute with"):
        resolve_source(ModelSpec(name=str(folder)), offline=offline)


def test_what_transformers_computes_itself_may_be_named(tmp_path: Path, tiny_model: Any) -> None:
    folder = tiny_model("bert", tmp_path / "m")
    change(folder / "config.json", attn_implementation="eager", _attn_implementation="sdpa")
    assert resolved(folder).weights_hash


def test_all_that_is_opened_is_in_the_hash_or_refused(tmp_path: Path, tiny_model: Any) -> None:
    folder = tiny_model("bert", tmp_path / "m")
    before = resolved(folder).weights_hash
    # transformers prefers a tokenizer for its own version.
    shutil.copy(folder / "tokenizer.json", folder / "tokenizer.4.0.0.json")
    assert resolved(folder).weights_hash != before
    (folder / "tokenizer.4.0.0.json").unlink()
    shutil.copy(folder / "model.safetensors", folder / "other.safetensors")
    change(folder / "config.json", transformers_weights="other.safetensors")
    with pytest.raises(ModelError, match="names another file of weights"):
        resolved(folder)


def test_weights_that_are_no_numbers(tmp_path: Path, tiny_model: Any) -> None:
    folder = tiny_model("bert", tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    next(t for name, t in tensors.items() if name.endswith("query.weight"))[0, 0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    source = resolved(folder)
    with pytest.raises(ModelError, match=r"no finite numbers \(.*query.weight\)"):
        require_finite_weights(source)
    with pytest.raises(ModelError, match="no finite numbers"):
        open_model(source)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(1).as_strided((10**6, 10**6), (0, 0)), "times as large as its files"),
        (torch.zeros(1).as_strided((10**4, 10**3), (0, 0)), "times as large as its files"),
        (torch.sparse_coo_tensor([[0], [0]], [1.0], (10**6, 10**6)), "sparse"),
        (torch.empty(3, device="meta"), "without values"),
        (torch.zeros(3, dtype=torch.complex64), "complex"),
    ],
)
def test_tensors_that_are_not_what_the_file_holds(
    tmp_path: Path, tiny_model: Any, tensor: torch.Tensor, message: str
) -> None:
    folder = as_pickle(tiny_model("bert", tmp_path / "m"), evil=tensor)
    with pytest.raises(ModelError, match=message):
        resolved(folder)


def run_ids(folder: Path, **generation: Any) -> str:
    """The identity of a translation."""
    from paretune.study import MethodSpec, Run, TaskSpec

    task = TaskSpec(name="t", kind="translation", train="t", source_lang="sl", target_lang="en")
    run = Run(
        stage="final", task=task, model=ModelSpec(name=str(folder)), method=MethodSpec(name="lora"),
        learning_rate=1e-3, seed=1, generation=Generation(**generation),
    )  # fmt: skip
    caches = ProcessCache()
    caches.datasets[task.model_dump_json()] = Dataset(
        task="t", kind="translation", labels=(), train=(), test=(), metric="chrf",
        language="en", licence="", source="",
    )  # fmt: skip
    return caches.identify(run)


def test_how_a_model_decodes_is_a_part_of_a_translations_identity(tmp_path: Path) -> None:
    folder = translator_folder("t5", tmp_path / "m")
    file, plain = folder / "generation_config.json", resolved(folder).weights_hash
    ids = [run_ids(folder)]
    for settings in ({"num_beams": 7}, {"length_penalty": 3.0}, {"no_repeat_ngram_size": 1}):
        change(file, **settings)
        ids.append(run_ids(folder))
    change(file, output_scores=True, max_length=7, transformers_version="9")
    assert run_ids(folder) == ids[-1]  # nothing of that changes a text
    assert len(set(ids)) == 4 and resolved(folder).weights_hash == plain
    # What the study sets itself holds in any case.
    assert run_ids(folder, num_beams=3) == run_ids(folder, num_beams=3)
    before = run_ids(folder, num_beams=3)
    change(file, num_beams=2)
    assert run_ids(folder, num_beams=3) == before


def test_a_file_that_only_repeats_the_config_changes_no_identity(tmp_path: Path) -> None:
    folder = translator_folder("t5", tmp_path / "m")
    file = folder / "generation_config.json"
    file.unlink()
    change(folder / "config.json", num_beams=4)
    without = run_ids(folder)
    config = json.loads((folder / "config.json").read_text())
    kept = ("num_beams", "eos_token_id", "pad_token_id", "decoder_start_token_id")
    file.write_text(json.dumps({key: config[key] for key in kept if key in config}))
    assert run_ids(folder) == without
    file.write_text(json.dumps({"eos_token_id": config["eos_token_id"]}))  # num_beams is 1 now
    assert run_ids(folder) != without


def test_a_converted_copy_decodes_as_the_model_does(tmp_path: Path) -> None:
    folder = as_pickle(translator_folder("t5", tmp_path / "m"))
    change(folder / "generation_config.json", num_beams=7)
    copy = resolved(folder).folder
    assert json.loads((copy / "generation_config.json").read_text())["num_beams"] == 7
    change(folder / "generation_config.json", num_beams=5)
    assert resolved(folder).folder != copy
