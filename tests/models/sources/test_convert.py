"""Checkpoints that exist only as .bin: opened without running anything, converted once."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load_file
from support.open_models import open_model

from paretune import objectives
from paretune.errors import ModelError, StoreError
from paretune.models.load import load_model
from paretune.models.sources.resolve import resolve_source
from paretune.study import ModelSpec
from paretune.testing.translator_folders import tiny_marian


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("PARETUNE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def pickled(tiny_model, tmp_path):
    """A tiny model with pytorch_model.bin instead of safetensors, its decoder tied as in life."""
    folder = tiny_model("bert", tmp_path / "pickled")
    state = load_file(folder / "model.safetensors")
    state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"]
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    return folder


def resolve_folder(folder):
    return resolve_source(ModelSpec(name=str(folder)))


def test_the_converted_model_is_the_same(pickled, tiny_model, own_home):
    source = resolve_folder(pickled)
    assert source.folder.is_relative_to(own_home)
    assert "only as .bin" in source.notes[0]
    loaded = open_model(source)
    assert loaded.notes == source.notes
    plain = open_model(tiny_model("bert"))
    assert loaded.backbone_digest() == plain.backbone_digest()
    assert loaded.tokenizer("Žaba skače") == plain.tokenizer("Žaba skače")


def test_it_is_converted_once(pickled, own_home):
    first = resolve_folder(pickled)
    stamp = (first.folder / "model.safetensors").stat().st_mtime_ns
    assert resolve_folder(pickled) == first
    assert (first.folder / "model.safetensors").stat().st_mtime_ns == stamp
    assert [p.name for p in (own_home / "models").iterdir()] == [first.folder.name]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["bit", "cut", "gone"])
def test_a_damaged_copy_is_made_again(pickled, name, damage):
    path = resolve_folder(pickled).folder / name
    whole = path.read_bytes()
    changed = {
        "bit": whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:],
        "cut": whole[: len(whole) // 2],
    }
    path.unlink()
    if damage in changed:
        path.write_bytes(changed[damage])
    assert (resolve_folder(pickled).folder / name).read_bytes() == whole


def test_the_hash_is_of_the_original(pickled):
    before = resolve_folder(pickled)
    state = torch.load(pickled / "pytorch_model.bin", weights_only=True)
    state["bert.pooler.dense.bias"] += 1
    torch.save(state, pickled / "pytorch_model.bin")
    after = resolve_folder(pickled)
    assert after.weights_hash != before.weights_hash
    assert after.folder != before.folder


def as_pickle(folder, state, **config):
    """The folder with ``state`` as pytorch_model.bin, and its config changed."""
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    message = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(message))
    return folder


def translator(folder):
    return load_model(
        resolve_folder(folder), objectives.get("translation").head_spec((), ("sl", "en"))
    )


@pytest.mark.parametrize("backwards", [False, True])
def test_a_tied_translation_model_stays_as_large_as_it_was(tmp_path, backwards):
    """As the hub has OPUS-MT: four names of one table in the .bin, in whatever order."""
    folder = tiny_marian(tmp_path / "marian")
    plain = translator(folder)
    state = dict(plain.model.state_dict())
    table = "model.shared.weight"
    tied = [n for n, t in state.items() if t.data_ptr() == state[table].data_ptr()]
    assert len(tied) == 4
    order = sorted(state, reverse=backwards)
    as_pickle(folder, {name: state[name] for name in order})
    opened = translator(folder)
    assert opened.backbone_digest() == plain.backbone_digest()
    assert opened.model.get_output_embeddings().weight is opened.model.get_input_embeddings().weight
    written = load_file(resolve_folder(folder).folder / "model.safetensors")
    assert sum(len(t) == len(state[table]) and t.ndim == 2 for t in written.values()) == 1


def test_tables_that_the_config_does_not_tie_are_all_written(tmp_path):
    """Equal in the file by how it was saved; the model has them apart, and looks for each."""
    folder = tiny_marian(tmp_path / "marian")
    plain = translator(folder)
    as_pickle(folder, dict(plain.model.state_dict()), tie_word_embeddings=False)
    opened = translator(folder).model
    words = plain.model.get_input_embeddings().weight
    for table in (opened.lm_head, opened.get_decoder().get_input_embeddings()):
        assert table.weight is not opened.get_input_embeddings().weight
        assert torch.equal(table.weight, words)


def test_the_format_before_zip_archives(pickled, tiny_model):
    state = torch.load(pickled / "pytorch_model.bin", weights_only=True)
    torch.save(state, pickled / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    loaded = open_model(pickled)
    plain = open_model(tiny_model("bert"))
    assert loaded.backbone_digest() == plain.backbone_digest()


def test_safetensors_are_preferred(pickled, tiny_model):
    weights = (tiny_model("bert") / "model.safetensors").read_bytes()
    (pickled / "model.safetensors").write_bytes(weights)
    (pickled / "pytorch_model.bin").write_bytes(b"never read")
    assert resolve_folder(pickled).folder == pickled.resolve()


class Evil:
    """Runs a command when it is unpickled by a careless reader."""

    def __init__(self, mark) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused(pickled, tmp_path, own_home, zipped):
    mark = tmp_path / "ran"
    evil = {"bert.pooler.dense.bias": Evil(mark)}
    torch.save(evil, pickled / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        ModelError, match=r"cannot be opened safely: it is a pickle that would call posix.mkdir"
    ) as e:
        resolve_folder(pickled)
    assert "weights_only" not in str(e.value)
    assert not mark.exists()
    assert not list(own_home.rglob("*.safetensors"))
    for protocol in (0, 2, 4):
        with (pickled / "pytorch_model.bin").open("wb") as file:
            pickle.dump(evil, file, protocol=protocol)
        with pytest.raises(ModelError, match="cannot be opened safely"):
            resolve_folder(pickled)
    assert not mark.exists()


def test_files_that_are_no_weights(pickled):
    file = pickled / "pytorch_model.bin"
    torn = b"", b"PK\x03\x04 torn", b"<html>not found</html>", b"\x80\x02}q\x00U"
    without_end = b"\x80\x02" + b"(" * 100, b"\x80\x02X\xff\xff\xff\x7fabc."
    for content in (*torn, *without_end):
        file.write_bytes(content)
        with pytest.raises(ModelError, match="cannot be opened safely"):
            resolve_folder(pickled)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10_000_000)
    with pytest.raises(ModelError, match="cannot be opened safely"):
        resolve_folder(pickled)


def test_a_training_checkpoint_is_no_model(pickled):
    torch.save({"model": {"w": torch.ones(1)}, "step": 3}, pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match="a training checkpoint"):
        resolve_folder(pickled)


def test_two_at_once(pickled, own_home):
    with ThreadPoolExecutor(4) as pool:
        folders = {source.folder for source in pool.map(resolve_folder, [pickled] * 4)}
    assert len(folders) == 1
    assert [p.name for p in (own_home / "models").iterdir()] == [folders.pop().name]


def test_a_conversion_that_fails_leaves_nothing(pickled, own_home, monkeypatch):
    def full(*args, **rest):
        raise OSError("no space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(StoreError, match=r"copy of the weights .*no space.*same command"):
        resolve_folder(pickled)
    assert not list((own_home / "models").iterdir())
