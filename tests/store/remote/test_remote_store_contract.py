from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.served_store import ServedStore

from paretune.store import Storage
from paretune.testing import StorageContract


class TestRemoteStore(StorageContract):
    """Every third answer is lost: what was asked is asked again, and done once.

    Two handles are two workers: each has a folder of its own.
    """

    @pytest.fixture(autouse=True)
    def served(self, tmp_path: Path) -> Iterator[None]:
        def lose(number: int, request: object) -> None:
            if number % 3 == 0:
                raise ConnectionResetError("the answer is lost")

        self._served = ServedStore(tmp_path / "at-the-server")
        self._served.after = lose
        self._clients = 0
        yield
        self._served.service.close()

    def open(self, folder: Path) -> Storage:
        self._clients += 1
        return self._served.client(folder / f"worker{self._clients}")
