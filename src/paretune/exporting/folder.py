"""The folder of an export: written whole or not at all, never over files, and pushed to the hub."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from paretune.errors import (
    NetworkError,
    ParetuneError,
    StoreError,
    StudyError,
    first_line,
    spell_option,
)
from paretune.files import create_folder, describe_os_error

ADAPTER_CONFIG = "adapter_config.json"
LOG_IN = "Log in with `hf auth login`, with a token that may write."


def check_target(target: Path) -> None:
    """Check that ``target`` is absent or an empty folder, and can be made.

    Raises:
        StudyError: it exists.
        StoreError: nothing can be written there.
    """
    if target.exists() and (target.is_file() or any(target.iterdir())):
        raise StudyError(
            "already exists.",
            where=str(target),
            remedy=f"Choose another folder with {spell_option('output')}.",
        )
    parent = next(folder for folder in target.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise _write_error(target, f"{parent} is not a folder that can be written to")


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A new folder beside ``target`` that takes its place at the end, unless there is an error.

    Raises:
        StoreError: it cannot be written, or the disk is full.
    """
    try:
        with create_folder(target) as folder:
            yield folder
    except ParetuneError:
        raise
    except Exception as error:
        reason = describe_os_error(error)
        if reason is None:
            raise
        raise _write_error(target, reason) from None


def check_push(repository: str) -> None:
    """Check name and login before anything is trained or written.

    Raises:
        StudyError: no such name is possible, or nobody is logged in.
        NetworkError: the hub cannot be reached.
    """
    if repository.count("/") != 1:
        raise StudyError(f'"{repository}" is no OWNER/NAME.', where=spell_option("push"))
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise StudyError(f"{first_line(error)}", where=spell_option("push")) from None
    with _translate_errors(repository):
        HfApi().whoami()


def push_folder(folder: Path, repository: str, *, public: bool = False) -> str:
    """Upload an export in one commit; the repository is created where there is none.

    An adapter whose base is a folder of this machine is uploaded without that path.

    Args:
        folder: what ``export`` wrote.
        repository: ``OWNER/NAME``.
        public: everybody may see it.

    Returns:
        The address of the repository.

    Raises:
        StudyError: nobody is logged in, or the repository is public and ``public`` is not set.
        NetworkError: the hub cannot be reached, or refuses.
    """
    api = HfApi()
    with _translate_errors(repository):
        url = api.create_repo(repository, private=not public, exist_ok=True)
        if not public and not api.repo_info(repository).private:
            raise StudyError(
                "exists and is public.",
                where=spell_option("push", repository),
                remedy=f"Allow that with {spell_option('public', True)}, or name another "
                "repository.",
            )
        added = []
        for path in sorted(folder.rglob("*")):
            if not path.is_file():
                continue
            content: Path | bytes = path
            if path.name == ADAPTER_CONFIG:
                config = json.loads(path.read_text(encoding="utf-8"))
                base = config.get("base_model_name_or_path")
                if base and Path(base).is_absolute():
                    config["base_model_name_or_path"] = ""
                    content = json.dumps(config, indent=2).encode()
            added.append(CommitOperationAdd(path.relative_to(folder).as_posix(), content))
        api.create_commit(
            repository,
            added,
            commit_message=f"Upload {folder.name} exported by paretune",
        )
    return str(url)


@contextmanager
def _translate_errors(repository: str) -> Iterator[None]:
    """Errors of the hub's library as ours."""
    where = spell_option("push", repository)
    try:
        yield
    except ParetuneError:
        raise
    except LocalTokenNotFoundError:
        raise StudyError("nobody is logged in to the hub.", where=where, remedy=LOG_IN) from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            raise StudyError(
                f"the hub refuses ({first_line(error)}).", where=where, remedy=LOG_IN
            ) from None
        raise NetworkError(f"the hub answers: {first_line(error)}", where=where) from None
    except Exception as error:
        # Classes of the HTTP library differ between versions of the hub's.
        if isinstance(error, OSError) or type(error).__module__.startswith(("httpx", "requests")):
            raise NetworkError(
                f"the hub cannot be reached ({first_line(error)}).",
                where=where,
                remedy="The export is written; try again with a network.",
            ) from None
        raise


def _write_error(target: Path, reason: str) -> StoreError:
    return StoreError(
        f"cannot be written ({reason}); nothing is left of it.",
        where=str(target),
        remedy=f"Free some space, or choose another folder with {spell_option('output')}.",
    )
