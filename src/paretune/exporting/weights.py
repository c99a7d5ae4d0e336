"""The trained weights of a run: from the store, or by training it again."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from paretune.errors import StoreError
from paretune.execution.progress import format_duration
from paretune.reporting.text.formatting import format_bytes
from paretune.store import Store
from paretune.store.encoding import decode_predictions
from paretune.store.record import Record
from paretune.study import Answer

TOLERANCE = 1e-3
"""Largest difference of a number from the recorded one, relative where that is above 1."""


def check_weights_kept(records: Sequence[Record], store: Store) -> None:
    """Check that the weights of all these runs were kept.

    Raises:
        StoreError: names those that were not, with what training them again takes.
    """
    dropped = store.list_dropped_runs()
    missing = [r for r in records if r.result.get("weights") is None or r.run_id in dropped]
    if not missing:
        return
    raise StoreError(
        "its trained weights were not kept." if len(missing) == 1 else "trained weights not kept.",
        where=", ".join(f"{' x '.join(r.run.cell)} ({describe_retraining(r)})" for r in missing),
        remedy="Add --train-again: the same run gives the same weights. "
        "protocol.keep_weights in the study file says how many bytes are kept.",
    )


def describe_retraining(record: Record) -> str:
    """``418 MiB, 12 min of training``: size of a run's weights, and what training took."""
    parts = [format_bytes(int(record.result.get("trained_bytes", 0)))]
    seconds = record.measured.get("wall_seconds", {}).get("train")
    if seconds is not None:
        parts.append(f"{format_duration(float(seconds))} of training")
    return ", ".join(parts)


def load_or_retrain(
    record: Record,
    store: Store,
    *,
    train_again: bool,
    tell: Callable[[str], None] = lambda sentence: None,
) -> bytes:
    """All trained tensors of a run, as safetensors.

    Args:
        record: a final run of a method that trains a model.
        train_again: train the run again if its weights were not kept.
        tell: called before that with a sentence on what it takes.

    Raises:
        StoreError: they were not kept, or the run trained again predicts something else.
    """
    blob = record.result.get("weights")
    if blob is not None and record.run_id not in store.list_dropped_runs():
        return store.read_blob(blob)
    if not train_again:
        check_weights_kept([record], store)
    tell(f"Training again: {' x '.join(record.run.cell)}, seed {record.run.seed} "
         f"({describe_retraining(record)} when it ran)")  # fmt: skip
    import torch

    from paretune.training.trainer import train_run

    torch.set_num_threads(record.measured.get("environment", {}).get("threads", 1))
    with tempfile.TemporaryDirectory() as folder:
        outcome = train_run(record.run, checkpoint=Path(folder) / "state")
    if not _answers_match(outcome.blobs["predictions"], record, store):
        raise StoreError(
            "trained again it answers differently: other data, processor or versions.",
            where=" x ".join(record.run.cell),
            remedy="Export where it was trained, or run the study here.",
        )
    return outcome.blobs["weights"]


def _answers_match(blob: bytes, record: Record, store: Store) -> bool:
    """Whether a run predicts the test examples as recorded, so that its scores are valid.

    A run is reproduced bit for bit only if it trained alone and on the same processor; otherwise it
    may differ by rounding.
    """
    if hashlib.sha256(blob).hexdigest() == record.result.get("predictions"):
        return True
    before = decode_predictions(
        store.read_blob(record.result["predictions"]), f"run {record.run_id}"
    )
    now = decode_predictions(blob, "the run trained again")
    if before["test"].uid != now["test"].uid:
        return False
    return all(map(is_same_answer, now["test"].prediction, before["test"].prediction))


def is_same_answer(answer: Answer, recorded: Answer) -> bool:
    """Whether they are equal, numbers within :data:`TOLERANCE`."""
    if isinstance(answer, float) and isinstance(recorded, float):
        return abs(answer - recorded) <= TOLERANCE * max(1.0, abs(recorded))
    return answer == recorded
