"""Model files from the hub: the local cache first, the network only where it is allowed."""

from __future__ import annotations

from pathlib import Path

from paretune.errors import ModelError, NetworkError
from paretune.models.files import PICKLED, SAFE, TOKENIZER, holds

_PLAIN = ["config.json", *TOKENIZER]
_SAFE = [SAFE, f"{SAFE}.index.json", "model-*.safetensors"]
_PICKLED = [PICKLED, f"{PICKLED}.index.json", "pytorch_model-*.bin"]


def snapshot(name: str, revision: str | None, *, offline: bool) -> tuple[Path, str]:
    """The folder of a hub model and its commit. ``.bin`` files come only without safetensors.

    Raises:
        ModelError: not in the cache while offline, unknown on the hub, or gated.
        NetworkError: the hub does not answer.
    """
    at = f" at revision {revision}" if revision else ""
    folder = _cached(name, revision)
    if folder is None and offline:
        beside = f" For the folder, write ./{name}." if Path(name).is_dir() else ""
        raise ModelError(
            f"is not in the local cache of the hub{at}, and nothing is fetched unless asked.",
            where=f"model {name}",
            remedy=f"Fetch it with --online, or give a folder.{beside}",
        )
    folder = folder or _fetch(name, revision, at)
    return folder, folder.name


def _cached(name: str, revision: str | None) -> Path | None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = _ask(name, revision, local=True)
    except LocalEntryNotFoundError:
        return None
    whole = (folder / "config.json").is_file() and holds(folder, SAFE, PICKLED)
    return folder if whole else None


def _fetch(name: str, revision: str | None, at: str) -> Path:
    from huggingface_hub import errors

    where = f"model {name}"
    try:
        return _ask(name, revision, local=False)
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


def _ask(name: str, revision: str | None, *, local: bool) -> Path:
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
        return folder if holds(folder, SAFE) else ask(folder.name, _PICKLED)
    except HFValidationError:
        raise ModelError(
            f'"{name}" is neither a model on the hub nor a folder.',
            where=f"model {name}",
            remedy="Write OWNER/NAME, ./FOLDER, or package:NAME.",
        ) from None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
