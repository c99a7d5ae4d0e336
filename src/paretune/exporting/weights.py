"""What a run trained: from the store, or by training it once more."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from paretune.errors import StoreError
from paretune.execution.progress.describe import format_duration
from paretune.reporting.text.formatting import format_bytes
from paretune.store import Store
from paretune.store.prediction_codec import decode_predictions
from paretune.store.record import Record

TOLERANCE = 1e-3
"""How far a number may lie from what the record says, relative to it where it is above 1."""


def check_weights_kept(records: Sequence[Record], store: Store) -> None:
    """Check that the weights of all these runs are there.

    Raises:
        StoreError: some were not kept; they are named, with what it takes to train them again.
    """
    dropped = store.list_dropped_runs()
    lost = [r for r in records if r.result.get("weights") is None or r.run_id in dropped]
    if not lost:
        return
    raise StoreError(
        "its trained weights were not kept." if len(lost) == 1 else "trained weights not kept.",
        where=", ".join(f"{' x '.join(r.run.cell)} ({describe_retraining(r)})" for r in lost),
        remedy="Add --train-again: the same run gives the same weights. "
        "protocol.keep_weights in the study file says how many bytes are kept.",
    )


def describe_retraining(record: Record) -> str:
    """``418 MiB, 12 min of training``: what a run's weights take, and took."""
    said = [format_bytes(int(record.result.get("trained_bytes", 0)))]
    seconds = record.measured.get("wall_seconds", {}).get("train")
    if seconds is not None:
        said.append(f"{format_duration(float(seconds))} of training")
    return ", ".join(said)


def load_or_retrain(
    record: Record,
    store: Store,
    *,
    train_again: bool,
    tell: Callable[[str], None] = lambda said: None,
) -> bytes:
    """Safetensors of all that the run trained.

    Args:
        record: a final run of a method that trains a model.
        store: where its blobs lie.
        train_again: where the weights were not kept, train the run once more.
        tell: told before that, what it takes.

    Raises:
        StoreError: they were not kept, or the run trained again answers a test example differently.
    """
    kept = record.result.get("weights")
    if kept is not None and record.run_id not in store.list_dropped_runs():
        return store.read_blob(kept)
    if not train_again:
        check_weights_kept([record], store)
    tell(f"Training again: {' x '.join(record.run.cell)}, seed {record.run.seed} "
         f"({describe_retraining(record)} when it ran)")  # fmt: skip
    import torch

    from paretune.models.kernels import policy
    from paretune.training.trainer import train_run

    trained_with = record.measured.get("environment", {})
    torch.set_num_threads(trained_with.get("threads", 1))
    # The same rounding once more: as then, with or without the extra `fast`.
    as_then = policy.override_kernels(on=bool(trained_with.get("compiled")))
    with as_then, tempfile.TemporaryDirectory() as folder:
        outcome = train_run(record.run, checkpoint=Path(folder) / "state")
    if not _answers_match(outcome.blobs["predictions"], record, store):
        raise StoreError(
            "trained again it answers differently: another processor or other versions.",
            where=" x ".join(record.run.cell),
            remedy="Export where it was trained, or run the study here.",
        )
    return outcome.blobs["weights"]


def _answers_match(blob: bytes, record: Record, store: Store) -> bool:
    """Whether a run answered the test examples as the record says, so that its scores hold.

    The same bits are promised only to a run that trains alone, on the same processor: one that
    trained in a fleet, or elsewhere, may differ by rounding. Numbers agree within
    :data:`TOLERANCE`, all other answers exactly.
    """
    if hashlib.sha256(blob).hexdigest() == record.result.get("predictions"):
        return True
    before = decode_predictions(
        store.read_blob(record.result["predictions"]), f"run {record.run_id}"
    )
    now = decode_predictions(blob, "the run trained again")
    if before["test"].uid != now["test"].uid:
        return False
    return all(
        abs(float(a) - float(b)) <= TOLERANCE * max(1.0, abs(float(a)))
        if isinstance(a, float) and isinstance(b, float)
        else a == b
        for a, b in zip(before["test"].prediction, now["test"].prediction, strict=True)
    )
