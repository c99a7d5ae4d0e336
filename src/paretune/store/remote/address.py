"""Where a storage lies: a folder with a store, or one that says at which server it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from paretune.atomic_write import write_atomically
from paretune.store.remote.client import RemoteStore
from paretune.store.remote.token import read_token
from paretune.store.remote.transport import HttpTransport, PatientTransport
from paretune.store.store import Store
from paretune.study.places import Places

FILE = "server.json"


@dataclass(frozen=True)
class ServerAddress:
    """How a process of a worker finds its server; no secrets.

    Attributes:
        token_file: with the token, absolute.
        places: of what the runs read, on this machine.
    """

    url: str
    token_file: str
    places: Places = field(default_factory=Places)

    def connector(self) -> Callable[[], PatientTransport]:
        """Opens connections; the token is read once.

        Raises:
            StudyError: the token cannot be read.
        """
        token = read_token(Path(self.token_file))
        return lambda: PatientTransport(HttpTransport(self.url, token), self.url)

    def save(self, folder: Path) -> None:
        """Let :func:`open_storage` find the server by the folder."""
        write_atomically(folder / FILE, json.dumps(asdict(self), indent=1))

    def open(self, folder: Path) -> RemoteStore:
        """The storage at the server; the folder is for checkpoints."""
        return RemoteStore(folder, self.connector(), self.places.relocate)


def load_address(folder: Path) -> ServerAddress | None:
    """The server that a folder names; None where it names none."""
    try:
        value: Mapping[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return ServerAddress(**{**value, "places": Places(**value["places"])})


def open_storage(folder: Path) -> AbstractContextManager[Store | RemoteStore]:
    """The storage of a folder: the store in it, or the one at the server that it names.

    Raises:
        StoreError: there is none, or it cannot be used.
    """
    address = load_address(folder)
    return Store.open(folder) if address is None else address.open(folder)
