"""What a run trained: from the store, or by training it once more."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from paretune.errors import StoreError
from paretune.store import Store
from paretune.store.predictions import decode_predictions
from paretune.store.record import Record

TOLERANCE = 1e-3
"""How far a number may lie from what the record says, relative to it where it is above 1."""


def refuse_lost(records: Sequence[Record]) -> None:
    """Check that the weights of all these runs were kept.

    Raises:
        StoreError: some were too large; they are named, with the remedy.
    """
    lost = [record for record in records if record.result.get("weights") is None]
    if not lost:
        return
    sizes = [
        f"{' x '.join(r.run.cell)} ({r.result.get('trained_bytes', 0) / 2**20:.0f} MiB)"
        for r in lost
    ]
    raise StoreError(
        "its trained weights were not kept." if len(lost) == 1 else "trained weights not kept.",
        where=", ".join(sizes),
        remedy="Add --train-again: the run is trained once more.",
    )


def weights(record: Record, store: Store, *, train_again: bool) -> bytes:
    """Safetensors of all that the run trained.

    Args:
        record: a final run of a method that trains a model.
        store: where its blobs lie.
        train_again: where the weights were too large to keep, train the run once more.

    Raises:
        StoreError: they were not kept, or the run trained again answers a test example differently.
    """
    kept = record.result.get("weights")
    if kept is not None:
        return store.blob(kept)
    if not train_again:
        refuse_lost([record])
    import torch

    from paretune.models import compiled
    from paretune.training.execute import execute_run

    trained_with = record.measured.get("environment", {})
    torch.set_num_threads(trained_with.get("threads", 1))
    # The same rounding once more: as then, with or without the extra `fast`.
    as_then = compiled.switched(on=bool(trained_with.get("compiled")))
    with as_then, tempfile.TemporaryDirectory() as folder:
        outcome = execute_run(
            record.run, checkpoint=Path(folder) / "state", report=lambda _: None, keep_bytes=None
        )
    if not _same_answers(outcome.blobs["predictions"], record, store):
        raise StoreError(
            "trained again it answers differently: another processor or other versions.",
            where=" x ".join(record.run.cell),
            remedy="Export where it was trained, or run the study here.",
        )
    return outcome.blobs["weights"]


def _same_answers(blob: bytes, record: Record, store: Store) -> bool:
    """Whether a run answered the test examples as the record says, so that its scores hold.

    The same bits are promised only to a run that trains alone, on the same processor: one that
    trained in a fleet, or elsewhere, may differ by rounding. Numbers agree within
    :data:`TOLERANCE`, all other answers exactly.
    """
    if hashlib.sha256(blob).hexdigest() == record.result.get("predictions"):
        return True
    before = decode_predictions(store.blob(record.result["predictions"]), f"run {record.run_id}")
    now = decode_predictions(blob, "the run trained again")
    if before["test"].uid != now["test"].uid:
        return False
    return all(
        abs(float(a) - float(b)) <= TOLERANCE * max(1.0, abs(float(a)))
        if isinstance(a, float) and isinstance(b, float)
        else a == b
        for a, b in zip(before["test"].prediction, now["test"].prediction, strict=True)
    )
