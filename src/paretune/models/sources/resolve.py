"""From the name of a model in a study file to its files, pinned and hashed. Imports no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from paretune.errors import ModelError
from paretune.files import expand_home
from paretune.models.sources.convert import convert_to_safetensors
from paretune.models.sources.file_checks import read_tensor_dtypes
from paretune.models.sources.files import SAFETENSORS, ModelFiles, list_model_files
from paretune.models.sources.hub import find_snapshot
from paretune.models.sources.package import find_package_folder
from paretune.study import ModelSpec
from paretune.study.specs import Quantisation

_HALVES = {"F16": "float16", "BF16": "bfloat16"}
_IMPLEMENTATION = re.compile("_?(attn|experts)_implementation(_internal)?")
_OWN_IMPLEMENTATIONS = ("eager", "sdpa", None)
"""Those of ``transformers`` that need nothing else; a run chooses one of the two itself."""
_LARGEST = (
    (re.compile("_?num_labels"), 100_000),
    (re.compile("n_layer|(.*_)?layers"), 1_000),
    (
        re.compile(
            "d_(model|ff|kv)|n_(embd|inner)|(.*_)?(size|dim|heads?|positions|embeddings|ctx)"
        ),
        2**24,
    ),
)
"""By the name of a size in a config: more than any model has, and few enough to compare shapes."""


@dataclass(frozen=True)
class ModelSource:
    """A model's files on this machine.

    Attributes:
        name: as the study file has it.
        folder: what ``from_pretrained`` is given.
        revision: the hub commit or the package's version; None for a folder.
        weights_hash: SHA-256 of config, weights and tokenizer, before any conversion.
        notes: what a reader of the results should know about these files.
        width: the hidden size that the config names; None where it names none.
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
        """What the weights are that a process holds: those of the files, perhaps quantised."""
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
    source, files = _locate(spec, offline=offline)
    _refuse_remote_code(spec, files)
    _refuse_hostile_settings(spec, files)
    source = replace(
        source,
        weights_hash=files.content_hash,
        width=read_hidden_size(files.config),
        decoding=files.decoding,
        quantisation=spec.quantisation,
    )
    name = spec.label or spec.name  # a path of this machine tells a reader nothing
    dtypes, notes = set(files.dtypes), []
    if files.is_pickle:
        source = replace(source, folder=convert_to_safetensors(files, source.weights_hash))
        dtypes = read_tensor_dtypes(source.folder / SAFETENSORS)
        notes.append(
            f"weights of {name} exist only as .bin; opened safely, converted to safetensors"
        )
    if halved := sorted(_HALVES[one] for one in dtypes & set(_HALVES)):
        notes.append(f"weights of {name} are {' and '.join(halved)} in their file")
    if spec.quantisation is not None:
        notes.append(f"frozen linear layers of {name} are quantised: {spec.quantisation}")
    return replace(source, notes=tuple(notes))


def _locate(spec: ModelSpec, *, offline: bool) -> tuple[ModelSource, ModelFiles]:
    name, revision = spec.name, None
    if name.startswith((".", "/", "~")) or Path(name).is_absolute():
        _refuse_revision(spec, "a folder has no revisions")
        folder = expand_home(name).resolve()
    elif name.startswith("package:"):
        _refuse_revision(spec, "a package is pinned where it is installed")
        folder, revision = find_package_folder(name.removeprefix("package:"))
    else:
        folder, revision = find_snapshot(name, spec.revision, offline=offline)
    return ModelSource(name, folder, revision, weights_hash=""), list_model_files(folder)


def read_hidden_size(config: Mapping[str, Any]) -> int | None:
    """The hidden size that a ``config.json`` names; None where it names none."""
    for name in ("hidden_size", "d_model", "dim", "n_embd"):
        if isinstance(config.get(name), int):
            return int(config[name])
    return None


def _refuse_revision(spec: ModelSpec, reason: str) -> None:
    if spec.revision is not None:
        raise ModelError(
            f"revision {spec.revision} cannot be chosen: {reason}.",
            where=f"model {spec.name}",
            remedy="Remove the revision.",
        )


def _refuse_remote_code(spec: ModelSpec, files: ModelFiles) -> None:
    """Refuse models that bring Python code of their own, which would run on this machine."""
    if "auto_map" not in files.config:
        return
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


def _refuse_hostile_settings(spec: ModelSpec, files: ModelFiles) -> None:
    """Refuse a config of absurd sizes, or with code or files elsewhere, which no hash would cover.

    ``attn_implementation: OWNER/NAME`` is native code of the hub, which ``transformers`` fetches
    and runs where the package ``kernels`` is installed; ``transformers_weights`` another file.
    """
    where = f"{files.folder / 'config.json'}"
    for key, value in _iterate_settings(files.config):
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
        for names, largest in _LARGEST:
            if (
                isinstance(value, int | float)
                and names.fullmatch(key)
                and not -1 <= value <= largest
            ):
                raise ModelError(
                    f"has {key}: {value:,}"[:80] + ", which no model has.",
                    where=where,
                    remedy="It is damaged, or not to be trusted: fetch the model again.",
                )


def _iterate_settings(value: Any) -> Iterator[tuple[str, Any]]:
    """All keys with their values, also in configs inside; as deep as JSON was read."""
    groups = [value]
    while groups:
        group = groups.pop()
        if isinstance(group, Mapping):
            for key, inner in group.items():
                yield str(key), inner
                groups.append(inner)
        elif isinstance(group, list):
            groups += group
