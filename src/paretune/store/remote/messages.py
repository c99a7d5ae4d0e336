"""Requests, answers, and the values in them as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from paretune import errors
from paretune.errors import ParetuneError
from paretune.store.prediction_codec import decode_predictions
from paretune.store.record import Record
from paretune.store.status import Claim, RunStatus
from paretune.store.status_view import Moment, StoredStatus
from paretune.study import MethodSpec, ModelSpec, Run, TaskSpec

PROTOCOL = 2
"""Version of the messages; client and server must have the same one."""
KEY_HEADER = "idempotency-key"
HASH_HEADER = "x-content-sha256"


@dataclass(frozen=True)
class Request:
    """What a client asks.

    Attributes:
        method: of HTTP.
        path: ``/v1/call/claim``, ``/v1/blobs/SHA256`` ...
        body: bytes, or a file that holds them.
        headers: names in lower case.
    """

    method: str
    path: str
    body: bytes | Path = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Response:
    """What the service answers; ``body``: bytes, or a file that holds them."""

    status: int
    body: bytes | Path = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def encode_json(value: Any) -> bytes:
    """A message; floats come back bit for bit."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def decode_json(body: bytes) -> Any:
    """The value of a message.

    Raises:
        ValueError: it is no JSON, or holds a NaN or an infinity.
    """
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deep") from None


ANY_RUN = Run(
    stage="tune",
    task=TaskSpec(name="any"),
    model=ModelSpec(name="any"),
    method=MethodSpec(name="any"),
    learning_rate=None,
    seed=0,
)
"""A store asks a claim that writes for its run's id alone, and messages have nothing else."""


def encode_claim(claim: Claim) -> dict[str, Any]:
    """A claim, its run by id alone."""
    return {f.name: getattr(claim, f.name) for f in fields(Claim) if f.name != "run"}


def decode_claim(value: Mapping[str, Any], run: Run = ANY_RUN) -> Claim:
    """The claim of a message, with its run."""
    return Claim(run=run, **value)


def encode_status(stored: StoredStatus) -> str:
    """The status of a run, by its id alone; what is as by default is left out."""
    status = stored.status
    defaults = RunStatus("", status.run, "todo", False, None, 0)
    names = [f.name for f in fields(RunStatus) if f.name != "run"]
    values = {
        name: dict(status.progress) if name == "progress" else getattr(status, name)
        for name in names
        if getattr(status, name) != getattr(defaults, name)
    }
    place = {"revision": stored.revision, "position": stored.position, "started": stored.started}
    return encode_json({**place, "status": values}).decode()


def decode_status(value: Mapping[str, Any], run: Run) -> StoredStatus:
    """The status of a message, with its run."""
    values = {
        "state": "todo",
        "is_claimable": False,
        "owner": None,
        "attempt": 0,
        **value["status"],
    }
    return StoredStatus(
        value["revision"], value["position"], RunStatus(**values, run=run), value["started"]
    )


def encode_moment(moment: Moment) -> dict[str, Any]:
    """What depends on the moment."""
    return {**asdict(moment), "abandoned": sorted(moment.abandoned)}


def decode_moment(value: Mapping[str, Any]) -> Moment:
    """What depends on the moment."""
    return Moment(**{**value, "abandoned": frozenset(value["abandoned"])})


def encode_record(record: Record) -> dict[str, Any]:
    """A record without its run and predictions, which are a blob."""
    return {
        f.name: getattr(record, f.name)
        for f in fields(Record)
        if f.name not in ("run", "predictions")
    }


def decode_record(
    value: Mapping[str, Any], run: Run, read_blob: Callable[[str], bytes] | None
) -> Record:
    """The record of a message; with its predictions where ``read_blob`` is given."""
    predictions = {}
    sha256 = value["result"].get("predictions")
    if read_blob is not None and sha256 is not None:
        predictions = decode_predictions(read_blob(sha256), f"run {value['run_id']}")
    return Record(**value, run=run, predictions=predictions)


def encode_error(error: ParetuneError | ValueError) -> dict[str, Any]:
    """An error that the client raises again."""
    if isinstance(error, ParetuneError):
        parts = {"what": error.what, "where": error.where, "remedy": error.remedy}
        return {"error": type(error).__name__, **parts}
    return {"error": "ValueError", "what": str(error)}


def raise_error(value: Mapping[str, Any]) -> None:
    """Raise the error of a message.

    Raises:
        ValueError: or the kind of ParetuneError that the service met; StoreError for one that this
            version does not know.
    """
    name, what = str(value.get("error")), str(value.get("what"))
    if name == "ValueError":
        raise ValueError(what)
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, ParetuneError)):
        kind = errors.StoreError
    raise kind(what, where=str(value.get("where", "")), remedy=str(value.get("remedy", "")))


def _refuse_constant(name: str) -> float:
    raise ValueError(f"holds {name}, which is no number of JSON")


def read_answer(response: Response) -> Any:
    """The JSON of an answer.

    Raises:
        ParetuneError: or ValueError, which the server met.
    """
    try:
        value = decode_json(read_body(response) or b"{}")
    except ValueError:
        value = {}
    if response.status != 200:
        if not isinstance(value, dict) or "error" not in value:
            value = {"what": f"the server failed (HTTP status {response.status})."}
            value["remedy"] = "Its own output says why."
        raise_error(value)
    return value


def read_body(response: Response) -> bytes:
    """The content of an answer, wherever it lies."""
    return response.body.read_bytes() if isinstance(response.body, Path) else response.body
