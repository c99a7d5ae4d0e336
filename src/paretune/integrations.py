"""Lets trainers of other libraries write predictions, time and memory for ``paretune judge``."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from paretune.files import write_atomically
from paretune.judging.rows import read_output


class PredictionsCallback(TrainerCallback):  # type: ignore[misc]
    """Times a run of ``transformers.Trainer`` or TRL, and writes its answers::

        callback = PredictionsCallback("predictions/lora-1.jsonl", method="lora")
        trainer = Trainer(..., callbacks=[callback])
        trainer.train()
        callback.write(trainer.predict(test))                 # labels and the largest logits
        callback.write(answers, labels=labels, ids=ids)       # or what you have generated

    Peak memory is CUDA's, from the beginning of training; on a CPU none is written.
    """

    def __init__(self, path: Path | str, method: str, **columns: Any) -> None:
        """Say where the rows go, and what each of them has: ``task``, ``model``, ``fold``."""
        self._path = Path(path)
        self._columns = {"method": method, **columns}
        self._begun = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock and the counter of peaks."""
        self._columns["seed"] = args.seed
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._begun = time.perf_counter()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Read both."""
        self._columns["seconds"] = time.perf_counter() - self._begun
        if torch.cuda.is_available():
            self._columns["peak_bytes"] = torch.cuda.max_memory_allocated()

    def write(
        self,
        predictions: Any,
        labels: Sequence[Any] | None = None,
        ids: Sequence[Any] | None = None,
    ) -> Path:
        """Write a row for each answer.

        Args:
            predictions: answers, or without ``labels`` the output of ``Trainer.predict``.
            labels: what is right.
            ids: of the rows; their places by default, so that all methods have the same test part.

        Raises:
            DataError: the output has no labels, or answers of another shape.
            ValueError: there are more or fewer answers than labels or ids.
            OSError: the file cannot be written.
        """
        if labels is None:
            pairs = read_output(predictions, str(self._path))
        else:
            pairs = [*zip(labels, predictions, strict=True)]
        places = range(len(pairs)) if ids is None else ids
        lines = [
            json.dumps({**self._columns, "id": uid, "label": label, "prediction": answer})
            for uid, (label, answer) in zip(places, pairs, strict=True)
        ]
        write_atomically(self._path, "".join(f"{line}\n" for line in lines))
        return self._path
