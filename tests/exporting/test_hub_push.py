"""An export on the hub: what is uploaded, who may see it, and what is answered where it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.hub import fake_hub
from support.loopback import Response, loopback_server

from paretune.errors import NetworkError, StudyError
from paretune.exporting.folder import check_push, push_folder


def written(folder: Path, base: str = "owner/base") -> Path:
    """A folder with the files of an adapter."""
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_text("---\ntags:\n- paretune\n---\n\n# lora\n", encoding="utf-8")
    (folder / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 40)
    config = {"base_model_name_or_path": base, "r": 8}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_all_files_are_uploaded_in_one_commit_to_a_private_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(tmp_path / "export")
    hub = fake_hub(monkeypatch)
    check_push("owner/topics-lora")
    url = push_folder(folder, "owner/topics-lora")
    assert url == "https://hub/owner/topics-lora" and hub.private == {"owner/topics-lora": True}
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert hub.files["owner/topics-lora"] == files
    assert hub.commits == ["Upload export exported by paretune"]


def test_a_path_of_this_machine_is_not_uploaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(tmp_path / "export", str(tmp_path / "model"))
    hub = fake_hub(monkeypatch)
    push_folder(folder, "owner/x")
    assert not [
        name for name, data in hub.files["owner/x"].items() if str(tmp_path).encode() in data
    ]
    assert json.loads(hub.files["owner/x"]["adapter_config.json"])["r"] == 8
    assert str(tmp_path) in (folder / "adapter_config.json").read_text(encoding="utf-8")


def test_a_public_repository_is_written_to_only_if_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(tmp_path / "export")
    hub = fake_hub(monkeypatch)
    push_folder(folder, "owner/x", public=True)
    assert hub.private["owner/x"] is False
    with pytest.raises(StudyError, match=r"exists and is public\. Allow that with public=True"):
        push_folder(folder, "owner/x")
    assert len(hub.commits) == 1


@pytest.mark.parametrize("token", [None, "hf_of_nobody"])
def test_who_is_not_logged_in_is_told_how(
    token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere/token")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    with loopback_server(lambda request: Response(401)) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        with pytest.raises(StudyError, match="hf auth login") as no:
            check_push("owner/x")
    assert no.value.exit_code == 2


@pytest.mark.parametrize("name", ["x", "a/b/c", "owner/a b", "owner/--"])
def test_names_that_cannot_be_are_refused_before_anything_is_asked(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StudyError, match="push="):
        check_push(name)


def test_a_hub_that_is_away_is_a_network_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    with pytest.raises(NetworkError) as error:
        check_push("owner/x")
    assert error.value.exit_code == 7
