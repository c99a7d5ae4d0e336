from __future__ import annotations

from pathlib import Path

from paretune.store import Storage, Store
from paretune.testing import StorageContract


class TestStore(StorageContract):
    def open(self, folder: Path) -> Storage:
        return Store.open(folder, create=True)
