"""While this is imported, ``paretune_autopeft`` is not there: no module and no entry point.

``PYTHONPATH=tests pytest -p support.without_autopeft tests/planning`` runs tests of the core so.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import metadata
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

BLOCKED = "paretune_autopeft"


class Blocker(MetaPathFinder):
    """Refuses every import of the package."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] == BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


_find_all = metadata.entry_points


def find_others(**selected: Any) -> Any:
    """The entry points without those of the package."""
    entries = _find_all(**selected)
    if not selected.get("group", "").startswith("paretune."):
        return entries
    return metadata.EntryPoints(e for e in entries if not e.value.startswith(BLOCKED))


sys.meta_path.insert(0, Blocker())
metadata.entry_points = find_others
