"""N tasks on one base in memory: bytes, seconds to load and to swap, latency, by form of export.

All tasks are copies of one export, with the weights that a run starts from: what they are changes
neither bytes nor seconds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import count, cycle
from operator import call
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_tensors

from paretune.data.example import Dataset
from paretune.exporting import formats
from paretune.exporting.restore import TaskSignature, restore_run
from paretune.measuring.memory import choose_counter, release_memory
from paretune.measuring.training_step import StepClock
from paretune.models.sources.resolve import ModelSource
from paretune.models.structure.heads import quiet_transformers
from paretune.study import Run
from paretune.training.forward.passes import Compute

FORMS = ("paretune", "peft", "merged")
"""One model, in which the tensors of a task take the place of another's; one model with all
adapters; a whole model for each task."""
LOADED_BYTES = 2**30
"""Files that are loaded at most; but two tasks always are."""
LIMIT_SECONDS = 1.0
"""For timing passes, and for timing swaps."""


def write_forms(
    run: Run, dataset: Dataset, source: ModelSource, folder: Path
) -> tuple[list[str], formats.Batch]:
    """Export a run, as it is before training, in each form that it can take, and encode one text.

    Returns:
        The forms, which are folders now, and the inputs of the model.
    """
    task = TaskSignature.of(run, dataset)
    prepared = restore_run(run, task, source, None)
    examples = sorted(dataset.test or dataset.train, key=lambda e: len(str(e.segments)))
    inputs = formats.make_batch(run, dataset, [examples[len(examples) // 2]], prepared)
    if prepared.loaded.anatomy.topology.pooled_token == -1:  # each choice is a text
        inputs = {name: rows.flatten(0, -2) for name, rows in inputs.items()}
    reasons = formats.explain_forms(run, task, source)
    forms = [form for form in FORMS if not reasons[form]]
    for form in forms:
        formats.WRITERS[form](run, task, source, prepared, folder / form)
    return forms, inputs


def host_tasks(
    compute: Compute, task: TaskSignature, source: ModelSource, folder: Path
) -> Iterator[Callable[[], Any]]:
    """Load one more task at each step; what it gives lets that task answer, and is its model.

    Args:
        folder: of the export, named as its form.
    """
    model, form = None, folder.name
    place: dict[str, Any] = {"device": compute.device}
    if compute.precision == "bf16" and source.quantisation is None:
        place["dtype"] = torch.bfloat16
    for number in count():
        adapter = "" if form != "peft" else f"task_{number}" if number else "default"
        if model is None or form == "merged":
            model = formats.open_export(form, task, source, folder).to(**place).eval()
        elif form == "peft":
            model.load_adapter(str(folder), adapter)
        content = (folder / "weights.safetensors").read_bytes() if form == "paretune" else b""
        tensors = {n: t.to(**place) for n, t in load_tensors(content).items()} if content else {}
        yield partial(_activate, model, adapter, tensors)


def _activate(model: Any, adapter: str, tensors: Mapping[str, torch.Tensor]) -> Any:
    if adapter:
        model.set_adapter(adapter)
    for name, tensor in tensors.items():
        model.get_parameter(name).data = tensor
    return model


def measure_run(
    run: Run, dataset: Dataset, source: ModelSource, device: str, tasks: int
) -> Iterator[tuple[str, dict[str, float]]]:
    """What so many tasks like that of a run take, by form.

    ``loaded`` tasks, ``disk_bytes`` and ``memory_bytes`` of all, and seconds: ``load``, ``swap``,
    ``text`` (one pass). Memory is what the process grows by, once it has written the same export.
    """
    compute = Compute.of(run, device)

    def measure(folder: Path) -> dict[str, float]:
        base_bytes, task_bytes = (
            sum(weights.stat().st_size for weights in place.glob("*.safetensors"))
            for place in (source.folder, folder)
        )
        loaded = min(tasks, max(2, LOADED_BYTES // task_bytes))
        hosted = host_tasks(compute, TaskSignature.of(run, dataset), source, folder)
        load, counter, swaps, resident = StepClock(device, 1), choose_counter(device), [], []
        release_memory()
        before = counter.read_bytes()
        for number in range(loaded):
            with load.step():
                swaps.append(next(hosted))
                model = swaps[-1]()
            answer(model)  # reads what is mapped
            if number in (0, loaded - 1):
                release_memory()
                resident.append(counter.read_bytes() - before)
        order, each = map(call, cycle(swaps)), (resident[1] - resident[0]) / (loaded - 1)
        swap = StepClock(device).repeat(order.__next__, LIMIT_SECONDS)
        text = StepClock(device).repeat(lambda: answer(model), LIMIT_SECONDS)
        return {
            "loaded": loaded,
            "disk_bytes": task_bytes * tasks + (0 if folder.name == "merged" else base_bytes),
            "memory_bytes": round(resident[0] + each * (tasks - 1)),
            "load_seconds": float(np.median(load.counted_seconds)),
            "swap_seconds": swap["median"],
            "text_seconds": text["median"],
        }

    def answer(model: Any) -> object:
        with torch.inference_mode(), compute.autocast():
            return model(**inputs)

    with tempfile.TemporaryDirectory() as name, quiet_transformers():
        forms, inputs = write_forms(run, dataset, source, Path(name))
        inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
        for form in forms:
            yield form, measure(Path(name, form))
