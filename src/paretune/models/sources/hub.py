"""Model files from the hub: the local cache first, the network only where it is allowed."""

from __future__ import annotations

from pathlib import Path

from paretune.errors import ModelError, NetworkError
from paretune.models.sources.files import (
    PICKLE,
    SAFETENSORS,
    TOKENIZER_FILES,
    describe_missing,
    has_weights,
)

_PLAIN = ["config.json", *TOKENIZER_FILES]
_SAFE = [SAFETENSORS, f"{SAFETENSORS}.index.json", "model-*.safetensors"]
_PICKLED = [PICKLE, f"{PICKLE}.index.json", "pytorch_model-*.bin"]


def find_snapshot(name: str, revision: str | None, *, offline: bool) -> tuple[Path, str]:
    """The folder of a hub model and its commit. ``.bin`` files come only without safetensors.

    Raises:
        ModelError: not (or not wholly) in the cache while offline, unknown or not complete on the
            hub, or gated.
        NetworkError: the hub does not answer.
    """
    at = f" at revision {revision}" if revision else ""
    folder, lost = _find_cached(name, revision)
    if folder is not None and not lost:
        return folder, folder.name
    if offline:
        beside = f" For the folder, write ./{name}." if Path(name).is_dir() else ""
        if folder is None:
            what = f"is not in the local cache of the hub{at}, and nothing is fetched unless asked."
            remedy = f"Fetch it with --online, or give a folder.{beside}"
        else:
            what = f"is only in part in the local cache of the hub{at}: it lacks {lost}."
            remedy = f"Fetch the rest with --online.{beside}"
        raise ModelError(what, where=f"model {name}", remedy=remedy)
    # What is there in part is completed at its own commit: the model stays what it was.
    folder = _fetch(name, revision if folder is None else folder.name, at)
    if lost := describe_missing(folder):
        raise ModelError(
            f"has not got {lost} on the hub{at}.",
            where=f"model {name}",
            remedy="Take another model, or a folder with all that a model needs.",
        )
    return folder, folder.name


def _find_cached(name: str, revision: str | None) -> tuple[Path | None, str]:
    """The snapshot's folder as far as it is there, and what it lacks."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = _download(name, revision, local=True)
        return folder, describe_missing(folder)
    except LocalEntryNotFoundError:
        # Newer clients know what a snapshot should hold, and do not give one that lacks a file.
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
            f"could not be fetched{at} ({_first_line(error)}).",
            where=where,
            remedy="Try again: what has arrived is kept.",
        ) from None


def _download(name: str, revision: str | None, *, local: bool) -> Path:
    """The snapshot's folder: with safetensors, or, where the model has none, with ``.bin``."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    def ask(at: str | None, weights: list[str]) -> Path:
        folder = snapshot_download(
            name,
            revision=at,
            allow_patterns=[*_PLAIN, *weights],
            # Files in folders inside the repository (ONNX, pooling) would match by name too.
            ignore_patterns=["*/*"],
            local_files_only=local,
        )
        return Path(folder)

    try:
        folder = ask(revision, _SAFE)
        return folder if has_weights(folder, SAFETENSORS) else ask(folder.name, _PICKLED)
    except HFValidationError:
        raise ModelError(
            f'"{name}" is neither a model on the hub nor a folder.',
            where=f"model {name}",
            remedy="Write OWNER/NAME, ./FOLDER, or package:NAME.",
        ) from None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
