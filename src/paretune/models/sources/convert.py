"""Conversion of ``pytorch_model.bin`` to safetensors: read safely, written once."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from paretune.errors import ModelError, StoreError
from paretune.files import converted_models_home, create_folder
from paretune.models.sources.files import GENERATION_CONFIG, SAFETENSORS, ModelFiles

if TYPE_CHECKING:
    from torch import Tensor

_MAX_GROWTH = 4
"""How much larger tensors may be than their files, where several names share one's data."""
_CHECKSUMS = "sha256.json"
"""In a converted folder: the SHA-256 of every other file by its name."""


def convert_to_safetensors(files: ModelFiles, weights_hash: str) -> Path:
    """A folder with the same config, tokenizer and weights, as safetensors; made at first use.

    Stored by ``weights_hash`` in paretune's data folder, whole or not at all, also when two
    processes convert at once, with the SHA-256 of each file. A copy that has changed since is made
    again.

    Raises:
        ModelError: the file is no plain mapping of names to tensors. Nothing in it is executed.
        StoreError: the copy cannot be written.
    """
    decoding = [path for path in (files.folder / GENERATION_CONFIG,) if path.is_file()]
    key = hashlib.sha256(
        b"".join([weights_hash.encode(), *(path.read_bytes() for path in decoding)])
    )
    target = converted_models_home() / (key.hexdigest() if decoding else weights_hash)[:20]
    if is_whole_copy(target):
        return target
    from safetensors.torch import save_file

    tensors = _read_pickles(files)
    if files.config.get("tie_word_embeddings") is not False:
        # The other names of word embeddings (decoder, output layer) are left out, since the model
        # ties them anew: each would be a copy on the disk, and one more that is mapped and read.
        views, tables = dict[str, tuple[object, ...]](), dict[tuple[object, ...], str]()
        for name, tensor in tensors.items():
            start = tensor.untyped_storage().data_ptr(), tensor.storage_offset()
            views[name] = *start, tensor.dtype, tensor.shape, tensor.stride()
            if "embed" in name or "shared" in name:
                tables.setdefault(views[name], name)
        tensors = {n: t for n, t in tensors.items() if tables.get(views[n], n) == n}
    try:
        with create_folder(target) as folder:
            for path in (files.folder / "config.json", *files.tokenizer, *decoding):
                shutil.copyfile(path, folder / path.name)
            save_file(own_memory(tensors), folder / SAFETENSORS, metadata={"format": "pt"})
            (folder / _CHECKSUMS).write_text(json.dumps(_hash_files(folder)), encoding="utf-8")
            if target.is_dir() and not is_whole_copy(target):
                shutil.rmtree(target)  # damaged, or of a paretune that wrote no checksums
    except (OSError, SafetensorError) as error:
        # Another process was first; what it wrote has the same content.
        if not is_whole_copy(target):
            raise StoreError(
                f"the copy of the weights as safetensors cannot be written ({error}).",
                where=str(target),
                remedy="Free some space; the same command continues.",
            ) from error
    return target


def is_whole_copy(folder: Path) -> bool:
    """Whether a folder holds a converted model, all files as they were written."""
    try:
        written = json.loads((folder / _CHECKSUMS).read_text(encoding="utf-8"))
        return bool(written == _hash_files(folder))
    except (OSError, ValueError):
        return False


def _hash_files(folder: Path) -> dict[str, str]:
    hashes = {}
    for path in sorted(folder.iterdir()):
        if path.name != _CHECKSUMS:
            with path.open("rb") as file:
                hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def _read_pickles(files: ModelFiles) -> dict[str, Tensor]:
    import torch

    tensors: dict[str, Tensor] = {}
    for path in files.weights:
        if path.suffix == ".json":
            continue
        try:
            # Files from before torch 1.6 are no zip archives and cannot be mapped.
            with warnings.catch_warnings(action="ignore"):  # of newer pickles, which are refused
                state = torch.load(
                    path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
                )
        except Exception as error:  # noqa: BLE001 (a damaged pickle ends in any of them)
            # Its own message advises to open the file unsafely all the same.
            called = re.search(r"GLOBAL ([\w.]+)", str(error))
            reason = "it is damaged, or a pickle that holds more than weights"
            if called is not None:
                reason = f"it is a pickle that would call {called[1]}"
            raise ModelError(
                f"cannot be opened safely: {reason}.",
                where=str(path),
                remedy="Fetch the file again, or choose a model with safetensors. If you trust "
                "this one, open it with its own library, and model.save_pretrained(FOLDER).",
            ) from None
        plain = isinstance(state, dict) and all(
            isinstance(name, str) and torch.is_tensor(value) for name, value in state.items()
        )
        if not plain:
            raise ModelError(
                "is not a plain mapping of names to tensors (a training checkpoint?).",
                where=str(path),
                remedy="Save the model alone: model.save_pretrained(FOLDER).",
            )
        for name, tensor in state.items():
            plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
            if not plain or tensor.is_quantized or tensor.is_complex():
                raise ModelError(
                    "holds a tensor that is sparse, quantised, complex or without values "
                    f"({name:.80}).",
                    where=str(path),
                    remedy="Save the model in full: model.save_pretrained(FOLDER).",
                )
        tensors.update(state)
    stored = sum(path.stat().st_size for path in files.weights)
    if sum(tensor.nbytes for tensor in tensors.values()) > _MAX_GROWTH * stored + (1 << 20):
        raise ModelError(
            f"its tensors are over {_MAX_GROWTH} times as large as its files.",
            where=str(files.folder),
            remedy="It is not to be trusted, or save it again: model.save_pretrained(FOLDER).",
        )
    return tensors


def own_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors on the CPU, each with memory of its own, as safetensors requires.

    Only tied tensors and views of larger ones are copied.
    """
    owning, storages = {}, set()
    for name, tensor in tensors.items():
        whole = tensor.detach().cpu().contiguous()
        storage = whole.untyped_storage()
        if storage.nbytes() != whole.nbytes or storage.data_ptr() in storages:
            whole = whole.clone()
        else:
            storages.add(storage.data_ptr())
        owning[name] = whole
    return owning
