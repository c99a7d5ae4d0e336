"""Finds the files of a folder that make a model, checks them, and hashes their content.

A folder comes from anywhere. Before anything opens its files they are found complete: a git-lfs
pointer is no file of weights, and half a file of weights is best called that. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paretune.errors import ModelError

SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"
GENERATION_CONFIG = "generation_config.json"
TOKENIZER_FILES = (
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
    "target_vocab.json",
)
_DECODING_IN_CONFIG = (
    "num_beams", "num_beam_groups", "diversity_penalty", "length_penalty", "early_stopping",
    "min_length", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "repetition_penalty",
    "bad_words_ids", "forced_bos_token_id", "forced_eos_token_id", "suppress_tokens",
    "begin_suppress_tokens", "decoder_start_token_id", "eos_token_id", "pad_token_id",
)  # fmt: skip
"""Settings of decoding that ``config.json`` may have; where the other file is, they do not hold."""
_NOT_DECODING = (
    "transformers_version", "_from_model_config", "use_cache", "cache_implementation",
    "cache_config", "output_attentions", "output_hidden_states", "output_scores", "output_logits",
    "return_dict_in_generate", "bos_token_id",
    # A study sets the length, and that nothing is sampled.
    "max_length", "max_new_tokens", "do_sample", "temperature", "top_k", "top_p", "min_p", "top_h",
    "typical_p", "epsilon_cutoff", "eta_cutoff",
)  # fmt: skip
"""Settings of ``generation_config.json`` that change no text."""
_TOKENIZER_CONFIGS = {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}
_OTHER_FRAMEWORKS = {
    "tf_model.h5": "TensorFlow",
    "flax_model.msgpack": "Flax",
    "model.onnx": "ONNX",
}


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model's folder that are read.

    ``is_pickle``: the weights are ``.bin`` files. ``dtypes``: of the tensors in safetensors
    (``F32``, ``F16`` ...); those of a ``.bin`` are not known before it is opened.
    """

    folder: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]
    tokenizer: tuple[Path, ...]
    is_pickle: bool
    dtypes: frozenset[str] = frozenset()

    @property
    def content_hash(self) -> str:
        """SHA-256 of names and bytes of the config, the weights and the tokenizer."""
        digest = hashlib.sha256()
        for path in (self.folder / "config.json", *self.weights, *self.tokenizer):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.name} {content}\n".encode())
        return digest.hexdigest()

    @property
    def decoding(self) -> dict[str, Any]:
        """Settings of ``generation_config.json`` that decode otherwise than ``config.json`` alone.

        ``content_hash`` has the rest. A setting that holds no longer is None.

        Raises:
            ModelError: the file is no JSON object.
        """
        path = self.folder / GENERATION_CONFIG
        if not path.is_file():
            return {}
        file, config = read_json_object(path), self.config
        settings = {k: v for k, v in file.items() if v is not None and k not in _NOT_DECODING}
        lost = [k for k in _DECODING_IN_CONFIG if config.get(k) is not None and k not in settings]
        changed = {k: v for k, v in settings.items() if v != config.get(k)}
        return {**changed, **dict.fromkeys(lost)}


def has_weights(folder: Path, *names: str) -> bool:
    """Whether a folder has weights of one of these names, as one file or with an index of many."""
    return any((folder / n).is_file() or (folder / f"{n}.index.json").is_file() for n in names)


def describe_missing(folder: Path) -> str:
    """The files of a model that a folder lacks, in words; "" where nothing is missing.

    Raises:
        ModelError: an index of weights that cannot be used.
    """
    if not (folder / "config.json").is_file():
        return "config.json"
    if not has_weights(folder, SAFETENSORS, PICKLE):
        return "weights"
    if missing := [path.name for path in _list_weight_files(folder)[0] if not path.is_file()]:
        return ", ".join(missing)
    return "" if _has_tokenizer(folder) else "a tokenizer"


def list_model_files(folder: Path) -> ModelFiles:
    """List a folder's model files, safetensors preferred.

    Raises:
        ModelError: no folder, no config, no weights that can be opened, or no tokenizer; a file
            that git-lfs has not fetched, or that is truncated.
    """
    where = str(folder)
    if not folder.is_dir():
        raise ModelError("no such folder.", where=where)
    if (folder / "adapter_config.json").is_file():
        # transformers would load the adapter into the model without a word.
        raise ModelError(
            "has a PEFT adapter, not a plain model.",
            where=where,
            remedy="Merge it into its base model first (merge_and_unload), and save that.",
        )
    config = read_json_object(folder / "config.json")
    weights, pickled = _list_weight_files(folder)
    if missing := [path.name for path in weights if not path.is_file()]:
        raise ModelError(
            f"names files that are missing: {', '.join(missing[:3])}"
            f"{f' and {len(missing) - 3} more' if len(missing) > 3 else ''}.",
            where=str(weights[0]),
        )
    if not weights:
        frameworks = [kind for name, kind in _OTHER_FRAMEWORKS.items() if (folder / name).is_file()]
        what = f"only {' and '.join(frameworks)} weights" if frameworks else "no weights"
        raise ModelError(
            f"has {what}: expected {SAFETENSORS} or {PICKLE}, as one file or with an index.",
            where=where,
            remedy="Open it with its own library and save it as safetensors.",
        )
    # Files for one version of transformers (tokenizer.4.0.0.json) are preferred where they are.
    versions = sorted(path.name for path in folder.glob("tokenizer.*.json"))
    names = [name for name in (*TOKENIZER_FILES, *versions) if (folder / name).is_file()]
    tokenizer = tuple(folder / name for name in names)
    if not _has_tokenizer(folder):
        raise ModelError(
            "has no tokenizer.",
            where=where,
            remedy="Save it there: tokenizer.save_pretrained(FOLDER).",
        )
    for path in (*weights, *tokenizer):
        require_no_lfs_pointer(path)
    safe = [path for path in weights if path.suffix == ".safetensors"]
    dtypes = frozenset(dtype for path in safe for dtype in read_tensor_dtypes(path))
    return ModelFiles(folder, config, weights, tokenizer, pickled, dtypes)


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / n).is_file() for n in TOKENIZER_FILES if n not in _TOKENIZER_CONFIGS)


def _list_weight_files(folder: Path) -> tuple[tuple[Path, ...], bool]:
    """The weight file, or an index and all that it names, missing or not; and whether pickled."""
    for name in (SAFETENSORS, PICKLE):
        if (folder / name).is_file():
            return (folder / name,), name == PICKLE
        index = folder / f"{name}.index.json"
        if not index.is_file():
            continue
        shards = read_json_object(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise ModelError("has no weight_map.", where=str(index))
        for shard in shards.values():
            # It must be a file of the index's own folder.
            is_name = isinstance(shard, str) and shard.isprintable() and Path(shard).name == shard
            if not is_name or not 0 < len(shard.encode()) <= 255:
                raise ModelError(
                    f"invalid name of a weight file: {shard!r:.80}.",
                    where=str(index),
                    remedy="It is damaged, or not to be trusted: fetch the model again.",
                )
        return (index, *(folder / shard for shard in sorted({*shards.values()}))), name == PICKLE
    return (), False


_MAX_HEADER_BYTES = 100_000_000  # of safetensors, by its own reader
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_FETCH_AGAIN = "Fetch the file again."


def require_no_lfs_pointer(path: Path) -> None:
    """Check that a file is not what git-lfs leaves in the place of a large one.

    Raises:
        ModelError: it is a git-lfs pointer, or cannot be read.
        FileNotFoundError: there is no such file.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS_POINTER))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ModelError(f"cannot be read ({error.strerror}).", where=str(path)) from None
    if start == _LFS_POINTER:
        raise ModelError(
            "is a git-lfs pointer, not the file itself.",
            where=str(path),
            remedy="Fetch it: `git lfs install`, then `git lfs pull` in the folder.",
        )


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ModelError: the file is missing, no JSON, or no object.
    """
    try:
        require_no_lfs_pointer(path)
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(
            f"there is no {path.name}.",
            where=str(path.parent),
            remedy="A model folder holds config.json, weights and a tokenizer (save_pretrained).",
        ) from None
    except OSError as error:
        raise ModelError(f"cannot be read ({error.strerror}).", where=str(path)) from None
    except RecursionError:
        raise ModelError("is nested without end.", where=str(path), remedy=_FETCH_AGAIN) from None
    except ValueError as error:
        reason = "a number of thousands of digits" if "int_max_str" in str(error) else str(error)
        raise ModelError(f"cannot be read as JSON ({reason}).", where=str(path)) from None
    if not isinstance(value, dict):
        raise ModelError("is not a JSON object.", where=str(path))
    return value


def read_tensor_dtypes(path: Path) -> set[str]:
    """The types in a safetensors file (``F32``, ``F16``, ``BF16`` ...), by its header.

    Raises:
        ModelError: the file is cut off, or is no safetensors file.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= min(_MAX_HEADER_BYTES, size):
                raise ValueError
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        whole = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        types = {str(entry["dtype"]) for entry in header.values()}
        cut_off = size < whole
    except (ValueError, RecursionError, TypeError, AttributeError, LookupError):
        raise _damaged(path, "it does not begin as a safetensors file does") from None
    if cut_off:
        raise _damaged(path, f"{size:,} of {whole:,} bytes are there")
    return types


def _damaged(path: Path, reason: str) -> ModelError:
    return ModelError(f"is truncated or damaged ({reason}).", where=str(path), remedy=_FETCH_AGAIN)
