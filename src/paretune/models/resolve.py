"""From the name in a study file to a folder of files, pinned and hashed. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paretune.errors import ModelError
from paretune.models.convert import converted
from paretune.models.files import SAFE, ModelFiles, model_files
from paretune.models.hub import snapshot
from paretune.models.package import package_folder
from paretune.models.whole_files import tensor_types
from paretune.study import ModelSpec

_HALVES = {"F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class Source:
    """A model's files on this machine.

    Attributes:
        name: as the study file has it.
        folder: what ``from_pretrained`` is given.
        revision: the hub commit or the package's version; None for a folder.
        weights_hash: sha256 over config, weights and tokenizer, before any conversion.
        notes: what a reader of the results should know about these files.
        width: the hidden size that the config names; None where it names none.
    """

    name: str
    folder: Path
    revision: str | None
    weights_hash: str
    notes: tuple[str, ...] = ()
    width: int | None = None


def resolve(spec: ModelSpec, *, offline: bool = True) -> Source:
    """Find a model: a folder (``./x``, ``/x``, ``~/x``), ``package:NAME``, or a hub name.

    Args:
        spec: name and, for the hub, revision.
        offline: take hub models from the local cache only.

    Raises:
        ModelError: not found, not complete, or not to be opened safely.
        NetworkError: the hub does not answer.
    """
    source, files = _found(spec, offline=offline)
    _no_remote_code(spec, files)
    source = replace(source, weights_hash=files.hash, width=hidden_size(files.config))
    types, notes = set(files.types), []
    if files.pickled:
        source = replace(source, folder=converted(files, source.weights_hash))
        types = tensor_types(source.folder / SAFE)
        notes.append(
            f"weights of {spec.name} exist only as .bin; opened safely, converted to safetensors"
        )
    if halved := sorted(_HALVES[one] for one in types & set(_HALVES)):
        notes.append(
            f"weights of {spec.name} are {' and '.join(halved)} in their file; opened as float32"
        )
    return replace(source, notes=tuple(notes))


def _found(spec: ModelSpec, *, offline: bool) -> tuple[Source, ModelFiles]:
    name, revision = spec.name, None
    if name.startswith((".", "/", "~")) or Path(name).is_absolute():
        _unpinned(spec, "a folder has no revisions")
        folder = Path(name).expanduser().resolve()
    elif name.startswith("package:"):
        _unpinned(spec, "a package is pinned where it is installed")
        folder, revision = package_folder(name.removeprefix("package:"))
    else:
        folder, revision = snapshot(name, spec.revision, offline=offline)
    return Source(name, folder, revision, weights_hash=""), model_files(folder)


def hidden_size(config: Mapping[str, Any]) -> int | None:
    """The width of a model as its ``config.json`` names it; None where it does not."""
    for name in ("hidden_size", "d_model", "dim", "n_embd"):
        if isinstance(config.get(name), int):
            return int(config[name])
    return None


def _unpinned(spec: ModelSpec, reason: str) -> None:
    if spec.revision is not None:
        raise ModelError(
            f"revision {spec.revision} means nothing here: {reason}.",
            where=f"model {spec.name}",
            remedy="Remove it.",
        )


def _no_remote_code(spec: ModelSpec, files: ModelFiles) -> None:
    """A model that brings its own Python code would run it on this machine."""
    if "auto_map" not in files.config:
        return
    # Imported for these few models only: it takes seconds.
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    kind = files.config.get("model_type")
    if kind not in CONFIG_MAPPING_NAMES:
        raise ModelError(
            f'is of type "{kind}", which needs Python code from its own repository '
            "(auto_map in config.json); paretune never runs such code.",
            where=f"model {spec.name}",
            remedy="Choose a model whose type transformers knows.",
        )
