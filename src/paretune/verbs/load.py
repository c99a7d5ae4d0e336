"""``load``: open a folder that ``export`` wrote in paretune's own form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paretune.study import ModelSpec


def load(folder: Path | str, *, base: str | None = None, online: bool = False) -> tuple[Any, Any]:
    """The model with its method applied, ready to predict, and its tokenizer.

    Args:
        folder: what ``paretune export --form paretune`` made.
        base: the base model: a folder, a hub name, ``package:NAME``. Needed if it was a folder on
            another machine, or has moved.
        online: the base may be downloaded from the hub.

    Raises:
        MethodError: no such folder, or another base than it was trained on.
        ModelError: the base cannot be found.
    """
    from paretune.exporting.restore import open_native_folder, read_native_folder
    from paretune.models.sources.local_paths import recall_path
    from paretune.models.sources.resolve import resolve_source

    base_fields = read_native_folder(Path(folder))["base"]
    revision = (
        base_fields["revision"]
        if base is None and not base_fields["name"].startswith("package:")
        else None
    )
    name = base or base_fields["name"]
    if base is None and base_fields.get("folder"):
        name = recall_path(base_fields["weights_hash"], base_fields["name"], Path(folder))
    spec = ModelSpec(name=name, revision=revision)
    restored = open_native_folder(Path(folder), resolve_source(spec, offline=not online))
    return restored.loaded.model, restored.loaded.tokenizer
