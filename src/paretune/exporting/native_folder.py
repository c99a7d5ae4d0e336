"""paretune's own form of an export: the trained tensors and what is needed to load them.

A folder with ``weights.safetensors`` and ``paretune.json`` (the run, its task and its base model),
which :func:`open_native_folder` opens on the base model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from paretune.errors import MethodError
from paretune.exporting.restore import TaskSignature, restore_run
from paretune.file_names import expand_home
from paretune.models.sources.local_paths import is_local_folder
from paretune.models.sources.resolve import ModelSource
from paretune.study import Run, paths
from paretune.training.prepare import PreparedModel

FORMAT = 2
"""Version of ``paretune.json``. 1 had the path of a local base instead of its label."""
PATH_KEYS = {
    "task": (*paths.PATH_KEYS, "dataset"),
    "generation": ("bertscore_model",),
    "forgetting": ("text",),
}
"""Settings of a run that may be a path on the machine that trained it; loading needs none."""


def write_native_folder(
    run: Run, task: TaskSignature, source: ModelSource, prepared: PreparedModel, folder: Path
) -> None:
    """Write the trained tensors of ``prepared`` and their description."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: p.detach().contiguous() for name, p in prepared.trained.items()}
    save_file(tensors, folder / "weights.safetensors")
    local = is_local_folder(source)
    description = {
        "format": FORMAT,
        "run": _run_without_paths(run, source),
        "task": {
            "kind": task.kind,
            "labels": list(task.labels),
            "languages": list(task.languages),
            **({} if task.readout == "head" else {"readout": task.readout}),
        },
        "base": {
            "name": run.model.key if local else source.name,
            "folder": local,
            "revision": source.revision,
            "weights_hash": source.weights_hash,
        },
    }
    (folder / "paretune.json").write_text(json.dumps(description, indent=2), encoding="utf-8")


def open_native_folder(folder: Path, source: ModelSource) -> PreparedModel:
    """The model that :func:`write_native_folder` wrote, on its base model.

    Raises:
        MethodError: it has an unknown format, or belongs to another base model.
    """
    description = read_native_folder(folder)
    base, task = description["base"], description["task"]
    if base["weights_hash"] != source.weights_hash:
        raise MethodError(
            f"was trained on other files of {base['name']} than those of {source.name}.",
            where=str(folder),
            remedy="Give the base that it was trained on.",
        )
    signature = TaskSignature(
        task["kind"],
        tuple(task["labels"]),
        tuple(task.get("languages", ())),
        task.get("readout", "head"),
    )
    weights = (folder / "weights.safetensors").read_bytes()
    return restore_run(Run.model_validate(description["run"]), signature, source, weights)


def read_native_folder(folder: Path) -> dict[str, Any]:
    """The content of ``paretune.json``.

    Raises:
        MethodError: there is none, or it has an unknown format.
    """
    try:
        text = (folder / "paretune.json").read_text(encoding="utf-8")
        description: dict[str, Any] = json.loads(text)
    except (OSError, ValueError) as error:
        raise MethodError(
            f"is no folder that paretune exported ({error}).", where=str(folder)
        ) from None
    if description.get("format") not in (1, FORMAT):
        raise MethodError(
            f"is of format {description.get('format')}; this version reads 1 and {FORMAT}.",
            where=str(folder),
            remedy="Update paretune.",
        )
    return description


def _run_without_paths(run: Run, source: ModelSource) -> dict[str, Any]:
    """The run as plain values, with the last name only of files and folders of this machine."""
    plain = run.model_dump(mode="json")
    if is_local_folder(source):
        plain["model"]["name"] = run.model.key
    for section, keys in PATH_KEYS.items():
        settings = plain.get(section) or {}
        for key in keys:
            value = settings.get(key)
            if isinstance(value, str) and expand_home(value).is_absolute():
                settings[key] = Path(value).name
    return plain
