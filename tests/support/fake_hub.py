"""A server on the loopback that answers as the hub does, as far as an upload asks it."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

TOKEN = "hf_of_a_test"  # noqa: S105 - no token of anybody


@dataclass
class FakeHub:
    """What the server holds: visibility by repository, and the files of each."""

    private: dict[str, bool] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)
    endpoint: str = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON of one request."""
        path, _, _ = path.partition("?")
        if (method, path) == ("GET", "/api/whoami-v2"):
            return 200, {"type": "user", "name": "owner", "orgs": []}
        if (method, path) == ("POST", "/api/validate-yaml"):
            return 200, {"errors": [], "warnings": []}
        if (method, path) == ("POST", "/api/repos/create"):
            return self._create(json.loads(body))
        if method == "PUT" and path.startswith("/lfs/"):
            assert hashlib.sha256(body).hexdigest() == path.removeprefix("/lfs/")
            self.blobs[path.removeprefix("/lfs/")] = body
            return 200, {}
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            for one in objects:
                one["actions"] = {"upload": {"href": f"{self.endpoint}/lfs/{one['oid']}"}}
            return 200, {"transfer": "basic", "objects": objects}
        repository, _, verb = path.removeprefix("/api/models/").partition("/preupload/")
        if verb:
            return 200, {"files": [_upload_mode(f) for f in json.loads(body)["files"]]}
        repository, _, verb = path.removeprefix("/api/models/").partition("/commit/")
        if verb:
            return self._commit(repository, body)
        if method == "GET" and repository in self.private:
            return 200, {"id": repository, "private": self.private[repository], "sha": "0" * 40}
        return 404, {"error": f"{method} {path} is not known here"}

    def _create(self, request: dict[str, Any]) -> tuple[int, Any]:
        repository = f"{request.get('organization') or 'owner'}/{request['name']}"
        url = f"{self.endpoint}/{repository}"
        if repository in self.private:
            return 409, {"error": "You already created this model repo", "url": url}
        private = request.get("private", request.get("visibility") == "private")
        self.private[repository], self.files[repository] = bool(private), {}
        return 200, {"url": url, "name": repository, "id": repository}

    def _commit(self, repository: str, body: bytes) -> tuple[int, Any]:
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                self.commits.append(value["summary"])
            elif entry["key"] == "file":
                self.files[repository][value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                self.files[repository][value["path"]] = self.blobs[value["oid"]]
        url = f"{self.endpoint}/{repository}/commit/{'1' * 40}"
        return 200, {"success": True, "commitOid": "1" * 40, "commitUrl": url}


def _upload_mode(file: dict[str, Any]) -> dict[str, Any]:
    mode = "lfs" if file["path"].endswith(".safetensors") else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}


@contextmanager
def fake_hub(monkeypatch: pytest.MonkeyPatch, *, token: str | None = TOKEN) -> Iterator[FakeHub]:
    """A hub that the library takes for the real one; ``token`` is who is logged in."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                body = _read_chunks(self.rfile)
            status, value = 401, {"error": "Invalid credentials"}
            if self.path.startswith("/lfs/") or self.headers["Authorization"] == f"Bearer {TOKEN}":
                status, value = hub.answer(self.command, self.path, body)
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _serve  # noqa: N815 - names of the base class

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere/token")
        if token is None:
            monkeypatch.delenv("HF_TOKEN", raising=False)
        else:
            monkeypatch.setenv("HF_TOKEN", token)
        yield hub
        server.shutdown()
        thread.join()


def _read_chunks(stream: Any) -> bytes:
    """The body of a request that is sent in chunks."""
    body = b""
    while size := int(stream.readline(), 16):
        body += stream.read(size)
        stream.readline()
    stream.readline()
    return body
