"""Files of a served store: blobs by their content, checkpoints by their run."""

from __future__ import annotations

import hashlib
from pathlib import Path

from paretune.atomic_write import part_path, replace_file
from paretune.errors import StoreError
from paretune.store.blobs import blob_path, read_blob, write_blob, write_blob_file
from paretune.store.remote.messages import (
    ANY_RUN,
    HASH_HEADER,
    Request,
    Response,
    encode_error,
    encode_json,
)
from paretune.store.status import Claim
from paretune.store.store import Store

LEASE_SECONDS = 60.0
"""What every claim holds for when the service starts, since its worker may have waited for it, and
when a checkpoint came in."""


def answer_blob(folder: Path, request: Request, sha256: str) -> Response:
    """Write a blob, read it, or say whether it is there.

    Args:
        folder: of the store.

    Raises:
        ValueError: the body is not what its hash says.
    """
    blobs = folder / "blobs"
    path = blob_path(blobs, sha256)
    if request.method == "PUT":
        if isinstance(request.body, Path):
            write_blob_file(blobs, request.body, sha256)
        elif hashlib.sha256(request.body).hexdigest() != sha256:
            raise ValueError("the body is not what its hash says")
        else:
            write_blob(blobs, request.body)
        return Response(200, b"{}")
    if not path.exists():
        error = StoreError(f"blob {sha256} is not here.", where=str(folder))
        return Response(404, encode_json(encode_error(error)))
    if request.method == "HEAD":
        return Response(200)
    return Response(200, read_blob(blobs, sha256))


def answer_checkpoint(store: Store, request: Request, run_id: str) -> Response:
    """Read a run's checkpoint, or write that of the worker that holds its claim.

    Raises:
        StaleClaimError: another worker holds the run by now.
        StoreError: it cannot be written.
        ValueError: the body is not what its hash says.
    """
    path = store.checkpoint_path(run_id)
    if request.method == "GET":
        return Response(200, path) if path.exists() else Response(404, b"{}")
    headers = request.headers
    attempt = int(headers.get("x-attempt", "0"))
    claim = Claim(run_id, ANY_RUN, headers.get("x-owner", ""), attempt, LEASE_SECONDS)
    if hash_body(request.body) != request.headers.get(HASH_HEADER):
        raise ValueError("the body is not what its hash says")
    store.renew(claim)  # only the holder's
    part = request.body if isinstance(request.body, Path) else part_path(path)
    try:
        with replace_file(path, part=part) as file:
            if not isinstance(request.body, Path):
                file.write_bytes(request.body)
    except OSError as error:
        raise StoreError(
            f"cannot be written ({error.strerror or error}).",
            where=str(path),
            remedy="Free some space at the server; the worker tries again later.",
        ) from error
    return Response(200, b"{}")


def hash_body(body: bytes | Path) -> str:
    """The sha256 of bytes, or of a file's."""
    if not isinstance(body, Path):
        return hashlib.sha256(body).hexdigest()
    with body.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
