"""The service by HTTP on loopback: one connection, large bodies, tokens, what a proxy may do."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.served_store import TOKEN, ServedStore
from support.tiny_runs import FORM, STUDY, runs

from paretune.errors import StoreError, StudyError
from paretune.store import Store
from paretune.store.remote.address import ServerAddress, load_address, open_storage
from paretune.store.remote.client import RemoteStore
from paretune.store.remote.http_server import SPOOL_BYTES, HttpServer
from paretune.store.remote.messages import Request
from paretune.store.remote.token import create_token, hold_server_lock, read_token
from paretune.store.remote.transport import HttpTransport, check_url
from paretune.study.places import Places


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedStore]:
    served = ServedStore(tmp_path / "server")
    with Store.open(served.folder) as store:
        store.save_study(STUDY, "tiny", "study: tiny\n", FORM)
        store.add_runs(STUDY, runs(2))
    yield served
    served.service.close()


@pytest.fixture
def server(served: ServedStore) -> Iterator[HttpServer]:
    with HttpServer(served.service, "127.0.0.1", 0) as server:
        yield server


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    return file


def test_a_run_from_its_claim_to_its_end(
    served: ServedStore, server: HttpServer, token_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "worker"
    ServerAddress(server.url, str(token_file), Places(models={"tiny": "/elsewhere"})).save(folder)
    state, weights = os.urandom(2 * SPOOL_BYTES), os.urandom(SPOOL_BYTES + 1)
    with open_storage(folder) as store:
        assert isinstance(store, RemoteStore) and store.folder == folder
        claim = store.claim("elsewhere", STUDY)
        assert claim is not None
        assert (claim.run.model.name, claim.run.model.key) == ("/elsewhere", "tiny")
        store.checkpoint_path(claim.run_id).write_bytes(state)
        assert store.release(claim)
        store.checkpoint_path(claim.run_id).unlink()
        again = store.claim("elsewhere", STUDY)
        assert again is not None and store.checkpoint_path(again.run_id).read_bytes() == state
        store.renew(again, {"step": 1, "loss": 0.1 + 0.2})
        store.finish(again, {"outcome": "ok"}, {}, {"weights": weights, "predictions": b"{}"})
        assert [s.state for s in store.load_statuses(STUDY)] == ["done", "todo"]
    with Store.open(served.folder) as store:
        (record,) = store.load_records(STUDY)
        assert store.read_blob(record.result["weights"]) == weights
        assert record.run.model.name == "tiny"  # where the study is, nothing has moved
    assert list((served.folder / "blobs" / "part").iterdir()) == []


def test_a_connection_that_the_server_closed_is_opened_again(
    served: ServedStore, server: HttpServer
) -> None:
    transport = HttpTransport(server.url, TOKEN)
    assert transport.send(Request("GET", "/v1/study")).status == 200
    assert transport._connection is not None and transport._connection.sock is not None
    transport._connection.sock.shutdown(socket.SHUT_RDWR)
    with pytest.raises(OSError, match=r"."):
        transport.send(Request("GET", "/v1/study"))
    assert transport.send(Request("GET", "/v1/study")).status == 200
    transport.close()


def test_a_wrong_token_ends_the_worker_with_a_sentence(
    server: HttpServer, token_file: Path, tmp_path: Path
) -> None:
    token_file.write_text("another")
    store = ServerAddress(server.url, str(token_file)).open(tmp_path / "worker")
    with pytest.raises(StoreError, match="the server refuses the token"):
        store.get_setting("a")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 (which is what is refused)
def test_no_server_listens_on_every_interface(served: ServedStore, host: str) -> None:
    with pytest.raises(StudyError, match="is every interface of this machine"):
        HttpServer(served.service, host, 0)


def test_a_port_that_is_taken_is_said(served: ServedStore, server: HttpServer) -> None:
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(StudyError, match=r"cannot be served at .*Choose another --port"):
        HttpServer(served.service, "127.0.0.1", port)


def test_a_token_is_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "token"
    token = create_token(file)
    assert len(token) > 40 and create_token(file) == read_token(file) == token
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o640)
    with pytest.raises(StudyError, match=f"others may read this token. chmod 600 {file}"):
        read_token(file)
    with pytest.raises(StudyError, match="the token cannot be read"):
        read_token(tmp_path / "none")


def test_a_second_server_of_one_store_is_refused(tmp_path: Path) -> None:
    with (
        hold_server_lock(tmp_path),
        pytest.raises(StoreError, match="another process serves this store"),
        hold_server_lock(tmp_path),
    ):
        pass
    with hold_server_lock(tmp_path):
        pass


@pytest.mark.parametrize("url", ["10.0.0.5:8765", "ftp://host", "http://", "http://u:p@host", "x"])
def test_what_is_no_address_is_said(url: str) -> None:
    with pytest.raises(StudyError, match="is no address of a server"):
        check_url(url)


def test_a_folder_without_a_server_is_a_store(tmp_path: Path) -> None:
    assert load_address(tmp_path) is None
    with pytest.raises(StoreError, match="no store of studies is here"):
        open_storage(tmp_path)
