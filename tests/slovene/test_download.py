"""Downloads against a loopback server that behaves, fails and lies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.loopback import Request, Response, loopback_server

from paretune.errors import DataError, NetworkError
from paretune_slovene.commands import data_fetch
from paretune_slovene.commands.data_fetch import fetch

BODY = bytes(range(256)) * 1200


@dataclass
class Server:
    """What the loopback server sends, and how often it was asked."""

    body: bytes = BODY
    statuses: list[int] = field(default_factory=list)
    redirect: str = ""
    requests: int = 0
    url: str = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()

    def answer(request: Request) -> Response:
        state.requests += 1
        if state.statuses:
            return Response(state.statuses.pop(0))
        if state.redirect:
            return Response(302, headers={"Location": state.redirect})
        return Response(200, state.body)

    with loopback_server(answer) as state.url:
        pinned = {"a.zip": hashlib.sha256(BODY).hexdigest()}
        monkeypatch.setattr(data_fetch, "COLLECTIONS", {"test": (state.url, pinned)})
        monkeypatch.setattr(data_fetch, "MAX_FILE_BYTES", len(BODY) + 1)
        monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield state


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_download_ends_with_the_file_alone_and_is_not_repeated(
    server: Server, tmp_path: Path
) -> None:
    updates: list[str] = []
    folder = fetch("test", output=tmp_path, tell=updates.append).folder
    assert folder == tmp_path / "test" and names(folder) == ["a.zip"]
    assert (folder / "a.zip").read_bytes() == BODY
    assert updates == ["a.zip: complete and verified"]
    fetch("test", output=tmp_path)
    assert server.requests == 1


def test_a_failed_request_is_repeated(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    assert (fetch("test", output=tmp_path).folder / "a.zip").read_bytes() == BODY


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"body": b"x" + BODY[1:]}, "SHA-256 differs"),
        ({"body": BODY[:-1]}, "SHA-256 differs"),
        ({"body": BODY * 3}, "more than 307,201 bytes"),
        ({"statuses": [404] * 9}, "404"),
        ({"redirect": "ftp://127.0.0.1/a.zip"}, "failed"),
        ({"redirect": "file:///etc/passwd"}, "failed"),
    ],
)
def test_only_the_pinned_file_is_kept(
    server: Server, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    for name, value in changes.items():
        setattr(server, name, value)
    with pytest.raises(NetworkError, match=message):
        fetch("test", output=tmp_path)
    assert names(tmp_path / "test") == []


def test_unknown_names_and_folders_are_data_errors(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match='no data set "superglue"'):
        fetch("superglue", output=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        fetch("test", output=tmp_path / "file")


def test_the_pins_are_those_of_the_published_files(shared: Path) -> None:
    folder = shared / "data" / "slobench-release"
    for name, sha256 in data_fetch.COLLECTIONS["superglue-sl"][1].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256
