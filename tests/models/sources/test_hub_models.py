"""Hub names, against a hub on the loopback: pinned, cached, and never asked unless allowed."""

from __future__ import annotations

import hashlib
import json
from urllib.parse import unquote, urlsplit

import pytest
import torch
from safetensors.torch import load_file
from support.loopback import Response, loopback_server
from support.open_models import open_model

from paretune.errors import ModelError, NetworkError
from paretune.models.sources.resolve import resolve_source
from paretune.study import ModelSpec

COMMITS = {"main": "a" * 40, "v1": "b" * 40}
NAME = "someone/tiny"


class Hub:
    """Serves one model at two revisions; remembers what was asked."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {commit: {} for commit in COMMITS.values()}
        self.requests: list[str] = []
        self.refusal: tuple[int, str] | None = None
        self.broken = False

    def add(self, revision, folder):
        for path in folder.iterdir():
            self.files[COMMITS[revision]][path.name] = path.read_bytes()

    def answer(self, path):
        """Status, headers and body for a path of the hub's API."""
        self.requests.append(path)
        if self.refusal:
            status, code = self.refusal
            return status, {"X-Error-Code": code}, b""
        api = f"/api/models/{NAME}/"
        if path.startswith((f"{api}revision/", f"{api}tree/")):
            revision = path.removeprefix(api).split("/")[1]
            commit = COMMITS.get(revision, revision)
            if commit not in self.files:
                return 404, {"X-Error-Code": "RevisionNotFound"}, b""
            if path.startswith(f"{api}tree/"):
                return (
                    200,
                    {},
                    json.dumps([self.entry(commit, f) for f in self.files[commit]]).encode(),
                )
            names = [{"rfilename": f} for f in self.files[commit]]
            info = {"_id": "1", "id": NAME, "sha": commit, "siblings": names}
            return 200, {}, json.dumps(info).encode()
        _, _, rest = path.partition(f"/{NAME}/resolve/")
        commit, _, name = rest.partition("/")
        if name not in self.files.get(commit, {}):
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if self.broken and name.endswith(".safetensors"):
            return 410, {}, b""  # not one of those that the client tries again for a while
        body = self.files[commit][name]
        tag = hashlib.sha256(body).hexdigest()
        return 200, {"ETag": f'"{tag}"', "X-Repo-Commit": commit}, body

    def entry(self, commit, name):
        body = self.files[commit][name]
        oid = hashlib.sha256(body).hexdigest()
        return {"type": "file", "path": name, "size": len(body), "oid": oid}

    @property
    def fetched(self):
        """Names of the files that were asked for."""
        return {path.rpartition("/")[2] for path in self.requests if "/resolve/" in path}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    served = Hub()

    def answer(request):
        status, headers, body = served.answer(unquote(urlsplit(request.path).path))
        return Response(status, body, headers)

    with loopback_server(answer) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setenv("PARETUNE_HOME", str(tmp_path / "home"))
        yield served


def resolve_hub(revision=None, *, offline):
    return resolve_source(ModelSpec(name=NAME, revision=revision), offline=offline)


def test_a_model_is_fetched_once_and_pinned(hub, tiny_model, tmp_path):
    folder = tiny_model("bert", tmp_path / "served")
    (folder / "README.md").write_text("not needed")
    (folder / "pytorch_model.bin").write_bytes(b"not needed")
    hub.add("main", folder)
    with pytest.raises(ModelError, match="online=True"):
        resolve_hub(offline=True)
    assert hub.requests == []
    source = resolve_hub(offline=False)
    assert source.revision == COMMITS["main"]
    assert source.notes == ()
    assert "model.safetensors" in hub.fetched
    assert not hub.fetched & {"README.md", "pytorch_model.bin"}
    assert source.weights_hash == resolve_source(ModelSpec(name=str(folder))).weights_hash
    open_model(source)
    hub.requests.clear()
    assert resolve_hub(offline=True) == source
    assert (
        resolve_hub(offline=False) == source
    )  # the cache comes first: the model stays what it was
    assert hub.requests == []


def test_a_revision_is_what_was_asked_for(hub, tiny_model):
    hub.add("main", tiny_model("bert"))
    hub.add("v1", tiny_model("electra"))
    assert resolve_hub(offline=False).revision == COMMITS["main"]
    with pytest.raises(ModelError, match="at revision v1"):
        resolve_hub("v1", offline=True)
    assert resolve_hub("v1", offline=False).revision == COMMITS["v1"]
    assert resolve_hub("v1", offline=True).weights_hash != resolve_hub(offline=True).weights_hash


def test_pickled_weights_come_only_where_there_is_nothing_else(hub, tiny_model, tmp_path):
    folder = tiny_model("bert", tmp_path / "served")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    hub.add("main", folder)
    source = resolve_hub(offline=False)
    assert source.revision == COMMITS["main"]
    assert "only as .bin" in source.notes[0]
    assert (source.folder / "model.safetensors").is_file()
    assert resolve_hub(offline=True) == source


def test_an_unknown_revision(hub, tiny_model):
    hub.add("main", tiny_model("bert"))
    with pytest.raises(ModelError, match="has no such revision"):
        resolve_hub("v9", offline=False)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [(404, "RepoNotFound", "does not exist on the hub"), (403, "GatedRepo", "accept terms")],
)
def test_what_the_hub_refuses(hub, status, code, message):
    hub.refusal = status, code
    with pytest.raises(ModelError, match=message):
        resolve_hub(offline=False)


def test_a_half_fetched_model_is_not_taken_for_whole(hub, tiny_model):
    hub.add("main", tiny_model("bert"))
    hub.broken = True
    with pytest.raises(NetworkError, match="could not be fetched"):
        resolve_hub(offline=False)
    with pytest.raises(ModelError, match="online=True"):
        resolve_hub(offline=True)
    hub.broken = False
    open_model(resolve_hub(offline=False))


def test_a_hub_that_does_not_answer(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(NetworkError, match="Try again"):
        resolve_hub(offline=False)


def test_a_name_that_cannot_be_on_the_hub():
    with pytest.raises(ModelError, match="neither a model on the hub nor a folder"):
        resolve_source(ModelSpec(name="a b/c"))


def drop(source, name):
    """Take one file out of the cache, as where a download was broken off or never asked for it."""
    blob = (source.folder / name).resolve()
    (source.folder / name).unlink()
    blob.unlink(missing_ok=True)


def test_a_cache_without_a_tokenizer_is_completed_at_its_own_commit(hub, tiny_model):
    hub.add("main", tiny_model("bert"))
    source = resolve_hub(offline=False)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        drop(source, name)
    with pytest.raises(ModelError) as error:
        resolve_hub(offline=True)
    assert "the local cache of the hub lacks a tokenizer" in str(error.value)
    assert "Fetch it with online=True" in str(error.value)
    assert "save_pretrained" not in str(error.value)
    hub.requests.clear()
    hub.files["c" * 40] = {}  # meanwhile main is another commit
    hub.add("v1", tiny_model("electra"))
    assert resolve_hub(offline=False) == source
    assert hub.fetched == {"tokenizer.json", "tokenizer_config.json"}
    assert resolve_hub(offline=True) == source


def test_a_model_that_has_no_tokenizer_on_the_hub(hub, tiny_model, tmp_path):
    folder = tiny_model("bert", tmp_path / "served")
    (folder / "tokenizer.json").unlink()
    hub.add("main", folder)
    with pytest.raises(ModelError, match="lacks a tokenizer on the hub") as error:
        resolve_hub(offline=False)
    assert "save_pretrained" not in str(error.value)
