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
    from paretune.export.formats import open_folder, read_folder
    from paretune.models.known import recalled
    from paretune.models.resolve import resolve

    told = read_folder(Path(folder))["base"]
    pinned = told["revision"] if base is None and not told["name"].startswith("package:") else None
    name = base or told["name"]
    if base is None and told.get("folder"):
        name = recalled(told["weights_hash"], told["name"], Path(folder))
    spec = ModelSpec(name=name, revision=pinned)
    found = open_folder(Path(folder), resolve(spec, offline=not online))
    return found.loaded.model, found.loaded.tokenizer
