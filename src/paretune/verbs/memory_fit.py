"""Runs that no setting of a pass makes fit into the memory of a device, refused before any starts.

A pass that is too large is split (:mod:`paretune.training.recovery.out_of_memory`); weights,
gradients, optimiser states and the best weights so far are there whatever a pass is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paretune.errors import StudyError
from paretune.measuring.devices import query_gpu
from paretune.measuring.processor import read_total_bytes
from paretune.methods.core.titles import title_of
from paretune.planning.predicted_cost import CostPredictor
from paretune.reporting.text.formatting import format_bytes
from paretune.study import NO_MODEL, Run

REMEDY = (
    "Train less of the model, hold it in less (quantisation: nf4, precision: bf16), take a "
    "smaller one, or a machine with more memory."
)


def explain_too_large(
    runs: Iterable[Run], predictor: CostPredictor, devices: Sequence[str]
) -> list[str]:
    """A sentence with numbers for each model and method that cannot fit on the smallest device."""
    total_bytes, device = min(
        (query_gpu(d).total_bytes if d.startswith("cuda") else read_total_bytes(), d)
        for d in devices
    )
    sentences: dict[tuple[str, str], str] = {}
    for run in runs:
        if run.model == NO_MODEL or (run.model.key, run.method.key) in sentences:
            continue
        memory = predictor.predict_resident(run)
        if memory.total_bytes > total_bytes:
            parts = [f"weights {format_bytes(memory.weights_bytes)}"]
            if memory.trained_bytes:
                trained = format_bytes(memory.trained_bytes)
                parts.append(f"gradients {trained}, AdamW's two moments twice that")
            if memory.copy_bytes:
                parts.append(f"the best weights so far {format_bytes(memory.copy_bytes)}")
            sentences[run.model.key, run.method.key] = (
                f"{title_of(run.method.key)} on {run.model.key} needs "
                f"{format_bytes(memory.total_bytes)} ({', '.join(parts)}) before any activation, "
                f"and {device} has {format_bytes(total_bytes)}."
            )
    return list(sentences.values())


def check_memory(runs: Iterable[Run], predictor: CostPredictor, devices: Sequence[str]) -> None:
    """Check that all runs can fit.

    Raises:
        StudyError: naming each model and method that cannot, with the bytes of each part.
    """
    if sentences := explain_too_large(runs, predictor, devices):
        raise StudyError("\n".join(sentences), remedy=REMEDY)
