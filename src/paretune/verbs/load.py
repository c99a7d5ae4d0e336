"""``load``: open a folder that ``export`` wrote in paretune's own form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paretune.study import ModelSpec


def load(folder: Path | str, *, base: str | None = None, online: bool = False) -> tuple[Any, Any]:
    """The model with its method inside, ready to answer, and its tokenizer.

    Args:
        folder: what ``paretune export --form paretune`` made.
        base: where the base lies: a folder, a hub name, ``package:NAME``. Needed where the base
            was a folder of another machine, or has moved.
        online: the base may be fetched from the hub.

    Raises:
        MethodError: no such folder, or another base than it was trained on.
        ModelError: the base cannot be found.
    """
    from paretune.exporting.formats import open_native_folder, read_native_folder
    from paretune.models.sources.local_paths import recall_path
    from paretune.models.sources.resolve import resolve_source

    told = read_native_folder(Path(folder))["base"]
    pinned = told["revision"] if base is None and not told["name"].startswith("package:") else None
    name = base or told["name"]
    if base is None and told.get("folder"):
        name = recall_path(told["weights_hash"], told["name"], Path(folder))
    spec = ModelSpec(name=name, revision=pinned)
    found = open_native_folder(Path(folder), resolve_source(spec, offline=not online))
    return found.loaded.model, found.loaded.tokenizer
