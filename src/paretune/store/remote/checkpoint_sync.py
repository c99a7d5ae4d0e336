"""Checkpoints of a worker of a server: files of this machine, and their newest copies there.

Training writes them here as ever. They are brought to the server when a run is given back and every
few minutes, and fetched where another worker began the run.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from paretune.atomic_write import part_path, replace_file, write_atomically
from paretune.errors import StoreError
from paretune.store.remote.messages import HASH_HEADER, Request, read_answer
from paretune.store.remote.transport import PatientTransport
from paretune.store.status import Claim


class CheckpointSync:
    """The checkpoints of this machine; handles of several threads share one.

    Args:
        folder: where they lie.
        clock: of the time between uploads.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._uploaded: dict[str, tuple[float, int]] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, run_id: str) -> Path:
        """Of a run's checkpoint."""
        return self._folder / f"{run_id}.safetensors"

    def _attempt_path(self, run_id: str) -> Path:
        """Which attempt at the run the checkpoint here is of."""
        return self._folder / f"{run_id}.attempt"

    def fetch(self, claim: Claim, sha256: str | None, transport: PatientTransport) -> None:
        """Get the newest checkpoint: the one here if this machine had the last attempt.

        Args:
            sha256: of the one at the server; None where there is none.

        Raises:
            StoreError: it is gone, or changed meanwhile.
        """
        path, attempt = self.path(claim.run_id), self._attempt_path(claim.run_id)
        last = attempt.read_text(encoding="ascii") if attempt.exists() else ""
        if path.exists() and last != str(claim.attempt - 1):
            path.unlink()
        if sha256 is not None and not path.exists():
            request = Request("GET", f"/v1/checkpoints/{claim.run_id}")
            with replace_file(path) as part:
                response = transport.send(request, part)
                if response.status != 200:
                    raise StoreError(
                        "its checkpoint is gone from the server.", where=f"run {claim.run_id}"
                    )
                if _hash_file(part) != sha256:
                    raise StoreError(
                        "its checkpoint changed while it was fetched.", where=f"run {claim.run_id}"
                    )
        write_atomically(attempt, str(claim.attempt))
        self._uploaded[claim.run_id] = (self._clock(), 0)

    def upload(self, claim: Claim, least_seconds: float, transport: PatientTransport) -> None:
        """Bring the checkpoint to the server, unless it is there, or the last one went just now.

        Raises:
            StaleClaimError: the run has passed to another worker.
            StoreError: the file cannot be read.
        """
        path = self.path(claim.run_id)
        now = self._clock()
        last, uploaded = self._uploaded.setdefault(claim.run_id, (now, 0))
        if now - last < least_seconds or not path.exists():
            return
        snapshot = part_path(path)
        try:
            _take_snapshot(path, snapshot)
            changed = snapshot.stat().st_mtime_ns
            if changed != uploaded:
                headers = {
                    "x-owner": claim.owner,
                    "x-attempt": str(claim.attempt),
                    HASH_HEADER: _hash_file(snapshot),
                }
                path_at_server = f"/v1/checkpoints/{claim.run_id}"
                read_answer(transport.send(Request("PUT", path_at_server, snapshot, headers)))
            self._uploaded[claim.run_id] = (now, changed)
        except FileNotFoundError:  # the run ended meanwhile
            return
        except OSError as error:
            raise StoreError(
                f"cannot be read ({error.strerror or error}).", where=str(path)
            ) from error
        finally:
            snapshot.unlink(missing_ok=True)

    def forget(self, claim: Claim) -> None:
        """Remove the checkpoint of a run that has ended, or passed to another worker."""
        self._uploaded.pop(claim.run_id, None)
        for path in (self.path(claim.run_id), self._attempt_path(claim.run_id)):
            path.unlink(missing_ok=True)


def _take_snapshot(path: Path, snapshot: Path) -> None:
    """The file as it is now; training writes another one in its place."""
    try:
        snapshot.hardlink_to(path)
    except FileNotFoundError:
        raise
    except OSError:  # the file system has no links
        shutil.copyfile(path, snapshot)


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
