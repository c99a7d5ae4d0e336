"""Model files of the hub: from the local cache, and from the network only where it is allowed."""

from __future__ import annotations

from pathlib import Path

from paretune.errors import ModelError, NetworkError, first_line
from paretune.models.sources.files import (
    GENERATION_CONFIG,
    PICKLE,
    SAFETENSORS,
    TOKENIZER_FILES,
    describe_missing,
    has_weights,
)

_ALWAYS = ["config.json", GENERATION_CONFIG, *TOKENIZER_FILES]
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
    folder, missing = _find_cached(name, revision)
    if folder is not None and not missing:
        return folder, folder.name
    if offline:
        hint = f" For the folder, write ./{name}." if Path(name).is_dir() else ""
        if folder is None:
            what = f"is not in the local cache of the hub{at}, and offline nothing is fetched."
            remedy = f"Fetch it with --online, or give a folder.{hint}"
        else:
            what = f"is incomplete in the local cache of the hub{at}: it lacks {missing}."
            remedy = f"Fetch the rest with --online.{hint}"
        raise ModelError(what, where=f"model {name}", remedy=remedy)
    # An incomplete snapshot is completed at its own commit: the model stays what it was.
    folder = _fetch(name, revision if folder is None else folder.name, at)
    if missing := describe_missing(folder):
        raise ModelError(
            f"lacks {missing} on the hub{at}.",
            where=f"model {name}",
            remedy="Choose another model, or a folder with all files.",
        )
    return folder, folder.name


def _find_cached(name: str, revision: str | None) -> tuple[Path | None, str]:
    """The snapshot's folder, if there is any, and what it lacks."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = _download(name, revision, local=True)
        return folder, describe_missing(folder)
    except LocalEntryNotFoundError:
        # Newer clients know what a snapshot should have, and return none that lacks a file.
        config = try_to_load_from_cache(name, "config.json", revision=revision)
        if not isinstance(config, str):
            return None, ""
        folder = Path(config).parent
        return folder, describe_missing(folder) or "some of its files"


def _fetch(name: str, revision: str | None, at: str) -> Path:
    from huggingface_hub import errors

    where = f"model {name}"
    try:
        return _download(name, revision, local=False)
    except errors.GatedRepoError:
        raise ModelError(
            "is gated: its owner asks you to accept terms first.",
            where=where,
            remedy="Accept them on the model's page, then log in with `hf auth login`.",
        ) from None
    except errors.RevisionNotFoundError:
        raise ModelError(f"has no revision {revision}.", where=where) from None
    except errors.RepositoryNotFoundError:
        raise ModelError(
            "does not exist on the hub, or is private.",
            where=where,
            remedy="Check the spelling; a folder is written ./FOLDER.",
        ) from None
    # The base class of whichever HTTP library the hub client uses, httpx or httpx2.
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]  # not listed there
        raise NetworkError(
            f"could not be fetched{at} ({first_line(error)}).",
            where=where,
            remedy="Try again: finished downloads are kept.",
        ) from None


def _download(name: str, revision: str | None, *, local: bool) -> Path:
    """The snapshot's folder: with safetensors, or, where the model has none, with ``.bin``."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    def download(at: str | None, weights: list[str]) -> Path:
        folder = snapshot_download(
            name,
            revision=at,
            allow_patterns=[*_ALWAYS, *weights],
            # Files in folders inside the repository (ONNX, pooling) would match by name too.
            ignore_patterns=["*/*"],
            local_files_only=local,
        )
        return Path(folder)

    try:
        folder = download(revision, _SAFE)
        if has_weights(folder, SAFETENSORS):
            return folder
        return download(folder.name, _PICKLED)
    except HFValidationError:
        raise ModelError(
            f'"{name}" is neither a model on the hub nor a folder.',
            where=f"model {name}",
            remedy="Write OWNER/NAME, ./FOLDER, or package:NAME.",
        ) from None
