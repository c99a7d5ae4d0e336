"""Which files of a folder make a model, and one hash over their content."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paretune.errors import ModelError

SAFE, PICKLED = "model.safetensors", "pytorch_model.bin"
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spm.model",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "source.spm",
    "target.spm",
)
_CONFIGURED = {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}
_FOREIGN = {"tf_model.h5": "TensorFlow", "flax_model.msgpack": "Flax", "model.onnx": "ONNX"}


@dataclass(frozen=True)
class ModelFiles:
    """What is read of a model's folder. ``pickled`` says that the weights are ``.bin`` files."""

    folder: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]
    tokenizer: tuple[Path, ...]
    pickled: bool

    @property
    def hash(self) -> str:
        """Sha256 over names and bytes of the config, the weights and the tokenizer."""
        digest = hashlib.sha256()
        for path in (self.folder / "config.json", *self.weights, *self.tokenizer):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.name} {content}\n".encode())
        return digest.hexdigest()


def holds(folder: Path, *names: str) -> bool:
    """Whether weights of one of these names are there, as one file or with an index of many."""
    return any((folder / n).is_file() or (folder / f"{n}.index.json").is_file() for n in names)


def model_files(folder: Path) -> ModelFiles:
    """List a folder's model files, safetensors preferred.

    Raises:
        ModelError: no folder, no config, no weights that can be opened, or no tokenizer.
    """
    where = str(folder)
    if not folder.is_dir():
        raise ModelError("no such folder.", where=where)
    if (folder / "adapter_config.json").is_file():
        # transformers would load the adapter into the model without a word.
        raise ModelError(
            "holds a PEFT adapter, not a plain model.",
            where=where,
            remedy="Merge it into its base model first (merge_and_unload), and save that.",
        )
    config = _json(folder / "config.json")
    weights, pickled = _weights(folder)
    tokenizer = tuple(folder / name for name in TOKENIZER if (folder / name).is_file())
    if not {path.name for path in tokenizer} - _CONFIGURED:
        raise ModelError(
            "there is no tokenizer beside the weights.",
            where=where,
            remedy="Save it there: tokenizer.save_pretrained(FOLDER).",
        )
    return ModelFiles(folder, config, weights, tokenizer, pickled)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"there is no {path.name}.",
            where=str(path.parent),
            remedy="A model folder holds config.json, weights and a tokenizer (save_pretrained).",
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot be read as JSON ({error}).", where=str(path)) from None
    if not isinstance(value, dict):
        raise ModelError("is not a JSON object.", where=str(path))
    return value


def _weights(folder: Path) -> tuple[tuple[Path, ...], bool]:
    """The weight files, an index first, and whether they are pickled."""
    for name in (SAFE, PICKLED):
        if (folder / name).is_file():
            return (folder / name,), name == PICKLED
        index = folder / f"{name}.index.json"
        if index.is_file():
            listed = _json(index).get("weight_map")
            if not isinstance(listed, dict):
                raise ModelError("has no weight_map.", where=str(index))
            shards = tuple(folder / Path(str(s)).name for s in sorted(set(listed.values())))
            lost = [shard.name for shard in shards if not shard.is_file()]
            if lost:
                raise ModelError(
                    f"names files that are missing: {', '.join(lost)}.", where=str(index)
                )
            return (index, *shards), name == PICKLED
    foreign = [kind for name, kind in _FOREIGN.items() if (folder / name).is_file()]
    found = f"only {' and '.join(foreign)} weights" if foreign else "no weights"
    raise ModelError(
        f"holds {found}; looked for {SAFE} and {PICKLED}, whole or with an index.",
        where=str(folder),
        remedy="Open it with its own library and save it as safetensors.",
    )
