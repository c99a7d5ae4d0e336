"""Downloads against a loopback server that behaves, breaks off, ignores Range, and lies."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from paretune.data.sources import download as fetching
from paretune.data.sources.download import Collection, PinnedFile, download_collection
from paretune.errors import DataError, NetworkError

BODY = bytes(range(256)) * 1200


@dataclass
class Server:
    """What the loopback server does, and what it was asked."""

    body: bytes = BODY
    ranges: bool = True
    drop_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    range_headers: list[str | None] = field(default_factory=list)
    url: str = ""
    redirect: str = ""
    drip: bool = False
    drip_headers: bool = False
    ended: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            range_header = self.headers.get("Range")
            state.range_headers.append(range_header)
            if state.statuses:
                self.send_error(state.statuses.pop(0))
                return
            if state.redirect and self.path == "/a.zip":
                self.send_response(302)
                self.send_header("Location", state.redirect)
                self.end_headers()
                return
            if state.drip_headers:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
                while not state.ended.wait(0.05):
                    self._send(b"x")
                return
            start = (
                int(range_header.removeprefix("bytes=").rstrip("-"))
                if range_header and state.ranges
                else 0
            )
            if start > len(state.body):
                self.send_error(416)
                return
            rest = state.body[start:]
            self.send_response(206 if start else 200)
            if start:
                end, size = len(state.body) - 1, len(state.body)
                self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            if state.drop_after:
                self.wfile.write(rest[: state.drop_after.pop(0)])
                self.wfile.flush()
                self.connection.close()
                return
            pieces = [rest[i : i + 1] for i in range(9)] if state.drip else [rest]
            for piece in pieces:
                self._send(piece)
                state.ended.wait(0.02 if state.drip else 0)

        def _send(self, data: bytes) -> None:
            with contextlib.suppress(OSError):  # the other side has given up
                self.wfile.write(data)
                self.wfile.flush()

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}"
    pinned = PinnedFile("a.zip", len(BODY), hashlib.sha256(BODY).hexdigest())
    collections = {"test": Collection("a test", state.url, (pinned,))}
    monkeypatch.setattr(fetching, "COLLECTIONS", collections)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield state
    state.ended.set()
    http.shutdown()
    thread.join()
    http.server_close()


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.suffix != ".lock")


def test_a_download_ends_with_the_file_alone_and_is_not_repeated(
    server: Server, tmp_path: Path
) -> None:
    seen: list[tuple[str, int, int]] = []
    folder = download_collection("test", tmp_path, progress=lambda *args: seen.append(args))
    assert folder == tmp_path / "test" and files(folder) == ["a.zip"]
    assert (folder / "a.zip").read_bytes() == BODY
    assert seen[-1] == ("a.zip", len(BODY), len(BODY)) and len(seen) > 1
    download_collection("test", tmp_path)
    assert server.range_headers == [None]


def test_a_dropped_connection_is_continued_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.drop_after = [100_000, 50_000]
    folder = download_collection("test", tmp_path, pause=0)
    assert (folder / "a.zip").read_bytes() == BODY
    assert server.range_headers == [None, "bytes=100000-", "bytes=150000-"]


def test_the_next_call_continues_what_the_last_one_left(server: Server, tmp_path: Path) -> None:
    server.drop_after = [70_000]
    with pytest.raises(NetworkError, match=r"70000 of 307200 bytes are kept"):
        download_collection("test", tmp_path, attempts=1)
    assert files(tmp_path / "test") == ["a.zip.part"]
    download_collection("test", tmp_path, attempts=1)
    assert server.range_headers == [None, "bytes=70000-"]
    assert files(tmp_path / "test") == ["a.zip"]


def test_a_server_that_ignores_range_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.ranges, server.drop_after = False, [100_000]
    folder = download_collection("test", tmp_path, pause=0)
    assert (folder / "a.zip").read_bytes() == BODY
    assert server.range_headers == [None, "bytes=100000-"]


def test_wrong_content_never_becomes_the_file(server: Server, tmp_path: Path) -> None:
    server.body = b"x" + BODY[1:]
    with pytest.raises(NetworkError, match="sha256 differs"):
        download_collection("test", tmp_path)
    assert files(tmp_path / "test") == []
    server.body = BODY
    assert (download_collection("test", tmp_path) / "a.zip").read_bytes() == BODY


def test_a_stale_part_of_something_else_is_found_out(server: Server, tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "a.zip.part").write_bytes(b"?" * 1000)
    with pytest.raises(NetworkError, match="sha256 differs"):
        download_collection("test", tmp_path)
    download_collection("test", tmp_path)
    (tmp_path / "test" / "a.zip").unlink()
    (tmp_path / "test" / "a.zip.part").write_bytes(b"?" * (len(BODY) + 1))
    assert (download_collection("test", tmp_path) / "a.zip").read_bytes() == BODY


def test_a_damaged_file_is_fetched_again(server: Server, tmp_path: Path) -> None:
    folder = download_collection("test", tmp_path)
    (folder / "a.zip").write_bytes(BODY[:-1] + b"!")
    download_collection("test", tmp_path)
    assert (folder / "a.zip").read_bytes() == BODY


def test_a_server_that_does_not_stop_is_cut_off(server: Server, tmp_path: Path) -> None:
    server.body = BODY * 3
    with pytest.raises(NetworkError, match="sends more than"):
        download_collection("test", tmp_path)
    part = tmp_path / "test" / "a.zip.part"
    assert part.stat().st_size == 0


def test_busy_is_tried_again_and_gone_is_not(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    download_collection("test", tmp_path, pause=0)
    assert len(server.range_headers) == 3
    server.statuses = [404]
    with pytest.raises(NetworkError, match="HTTP 404") as caught:
        download_collection("test", tmp_path / "other", pause=0)
    assert len(server.range_headers) == 4 and caught.value.remedy and caught.value.exit_code == 7


def test_no_server_is_a_network_error(server: Server, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="was interrupted 2 times"):
        download_collection("test", tmp_path, base_url="http://127.0.0.1:9", attempts=2, pause=0)


def test_two_at_once_download_once(server: Server, tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=download_collection, args=("test", tmp_path)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.range_headers == [None] and files(tmp_path / "test") == ["a.zip"]


def test_unknown_names_and_addresses_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is superglue-sl"):
        download_collection("superglue", tmp_path)
    with pytest.raises(DataError, match="not a URL"):
        download_collection("superglue-sl", tmp_path, base_url="file:///etc")


def test_a_folder_that_cannot_be_made_is_a_data_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        download_collection("test", tmp_path / "file")


def test_the_pins_are_those_of_the_published_files(shared: Path) -> None:
    folder = shared / "data" / "slobench-release"
    for pinned in fetching.COLLECTIONS["superglue-sl"].files:
        data = (folder / pinned.name).read_bytes()
        assert len(data) == pinned.size
        assert hashlib.sha256(data).hexdigest() == pinned.sha256


@pytest.mark.parametrize(
    "address",
    [
        "http://[::1", "ftp://host/x", "file:///etc/passwd", "https://", "http:///x",
        "javascript:x", "http://host:99999", "http://host:x", "http://a b", "http://host/\n", "",
        "http://user:secret@host", "https://secret@host/x",
    ],
)  # fmt: skip
def test_what_is_no_address_of_the_web(server: Server, tmp_path: Path, address: str) -> None:
    with pytest.raises(DataError) as refused:
        download_collection("test", tmp_path, base_url=address or "x", attempts=1)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "target", ["ftp://127.0.0.1/a.zip", "file:///etc/passwd", "http://u:secret@127.0.0.1/a"]
)
def test_redirects_stay_in_the_web(server: Server, tmp_path: Path, target: str) -> None:
    server.redirect = target
    with pytest.raises(NetworkError, match=r"no public address|is not allowed") as refused:
        download_collection("test", tmp_path, attempts=1)
    assert "secret" not in str(refused.value) and not files(tmp_path / "test")


def test_redirects_within_the_web_are_followed(server: Server, tmp_path: Path) -> None:
    server.redirect = f"{server.url}/elsewhere"
    download_collection("test", tmp_path, attempts=1)
    assert files(tmp_path / "test") == ["a.zip"]


def test_a_server_that_drips_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock of our own: a second passes at each look at it."""
    server.drip = True
    seconds = itertools.count()
    monkeypatch.setattr(fetching.time, "monotonic", lambda: float(next(seconds)))
    monkeypatch.setattr(fetching, "_MIN_BYTES_PER_SECOND", len(BODY))
    with pytest.raises(NetworkError, match="slower than"):
        download_collection("test", tmp_path, attempts=1, timeout=5)
    assert len(server.range_headers) == 1


def test_headers_that_drip_are_given_up(server: Server, tmp_path: Path) -> None:
    server.drip_headers = True
    with pytest.raises(NetworkError, match="interrupted 1 times"):
        download_collection("test", tmp_path, attempts=1, timeout=0.2)


def test_nothing_is_written_through_links(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "test"
    folder.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (folder / "a.zip.part").symlink_to(victim)
    download_collection("test", tmp_path)
    assert victim.read_text() == "mine" and (folder / "a.zip").read_bytes() == BODY
    (folder / "a.zip").unlink()
    os.mkfifo(folder / "a.zip.part")
    download_collection("test", tmp_path)
    (folder / "a.zip.lock").unlink()
    (folder / "a.zip.lock").symlink_to(victim)
    with pytest.raises(DataError, match="cannot be written"):
        download_collection("test", tmp_path)
    assert victim.read_text() == "mine"
