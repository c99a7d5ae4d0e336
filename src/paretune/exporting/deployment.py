"""N tasks on one base in memory: bytes, seconds to load and to swap, latency, by form of export.

All tasks are copies of one export, whose content changes neither bytes nor seconds. Each form is
measured in a process that has done nothing else.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_tensors

from paretune.data.example import Dataset
from paretune.execution.cost_processes import PRELOADED_MODULES
from paretune.exporting import formats
from paretune.exporting.restore import TaskSignature, restore_run, write_native_folder
from paretune.measuring.memory import choose_counter, release_memory, warm_libraries
from paretune.measuring.training_step import StepClock
from paretune.models.sources.resolve import ModelSource
from paretune.models.structure.heads import quiet_transformers
from paretune.objectives.encoding import Batch
from paretune.objectives.readouts import for_readout
from paretune.study import Run
from paretune.training.forward.passes import Compute, to_tensors

LOADED_BYTES = 2**30
"""Files that are loaded at most, but two always are: each further task takes as much memory."""
LIMIT_SECONDS = 1.0
"""For timing passes, and for timing swaps."""


@dataclass(frozen=True)
class HostingCost:
    """What it takes to hold N tasks of a method in one form.

    Attributes:
        form: ``paretune`` (one model; the tensors of a task take the place of another's), ``peft``
            (one model with all adapters) or ``merged`` (a whole model for each task).
        weights: ``trained`` by the study, or ``fresh`` where it has kept none.
        disk_bytes: weights of all tasks, and of the base where they need it.
        memory_bytes: of all tasks and the base, from the first and the last that was loaded.
        load_seconds: of a task from its file, which the system has in its cache.
        swap_seconds: until another task in memory answers.
        text_seconds: of one pass over one text.
    """

    model: str
    method: str
    form: str
    weights: str
    precision: str
    disk_bytes: int
    memory_bytes: int
    loaded_tasks: int
    load_seconds: float
    swap_seconds: float
    text_seconds: float


@dataclass
class Host:
    """Tasks in memory, all copies of one export, of which one at a time answers a text.

    Attributes:
        task: what the export is opened for; ``inputs``: its text.
        models: by task; in most forms the same one.
        tensors: by task, of the form ``paretune``.
    """

    form: str
    task: TaskSignature
    source: ModelSource
    folder: Path
    inputs: Batch
    compute: Compute
    models: list[Any] = field(default_factory=list)
    tensors: list[dict[str, torch.Tensor]] = field(default_factory=list)

    def add(self) -> None:
        """Load one more task, and let it answer."""
        place: dict[str, Any] = {"device": self.compute.device}
        if self.compute.precision == "bf16" and self.source.quantisation is None:
            place["dtype"] = torch.bfloat16
        if self.models and self.form == "peft":
            self.models[0].load_adapter(str(self.folder), f"task_{len(self.models)}")
        if self.models and self.form != "merged":
            self.models.append(self.models[0])
        else:
            opened = formats.open_export(self.form, self.task, self.source, self.folder)
            self.models.append(opened.to(**place).eval())
        if self.form == "paretune":
            tensors = load_tensors((self.folder / "weights.safetensors").read_bytes())
            self.tensors.append({name: t.to(**place) for name, t in tensors.items()})
        self.select(len(self.models) - 1)

    def select(self, task: int) -> None:
        """Let this task answer next."""
        self.active = self.models[task]
        if self.form == "peft":
            self.active.set_adapter(f"task_{task}" if task else "default")
        elif self.form == "paretune":
            for name, tensor in self.tensors[task].items():
                self.active.get_parameter(name).data = tensor

    def answer(self) -> torch.Tensor:
        """The logits of the text."""
        inputs = to_tensors(self.inputs, self.compute.device)
        with torch.inference_mode(), self.compute.autocast():
            logits: torch.Tensor = self.active(**inputs).logits
        return logits


def write_task(
    run: Run,
    dataset: Dataset,
    source: ModelSource,
    weights: bytes | None,
    compute: Compute,
    folder: Path,
) -> list[Host]:
    """Export a run in each form that it can take; without weights as it is before training."""
    task = TaskSignature.of(run, dataset)
    objective = for_readout(dataset.objective, run.readout, dataset.prompt)
    with quiet_transformers():
        prepared = restore_run(run, task, source, weights)
        tokenizer, prefix = prepared.loaded.tokenizer, prepared.loaded.direction.prefix
        examples = sorted(dataset.test or dataset.train, key=lambda e: len(str(e.segments)))
        median = [examples[len(examples) // 2]]
        text = objective.encode(median, tokenizer, prepared.max_length, prefix)
        inputs = objective.collate(text, [0], prepared.loaded.pad_id)
        if objective.head == "causal_lm":
            inputs.pop("labels")
        if prepared.loaded.anatomy.topology.pooled_token == -1:  # each choice is a text
            inputs = {name: rows.reshape(-1, rows.shape[-1]) for name, rows in inputs.items()}
        reasons = formats.explain_forms(run, task, source)
        forms = [form for form in ("paretune", "peft", "merged") if not reasons[form]]
        write_native_folder(run, task, source, prepared, folder / "paretune")
        if "peft" in forms:
            formats.write_peft_adapter(run, task, source, prepared, folder / "peft")
        if "merged" in forms:  # last: it uses the model up
            formats.write_merged_model(run, prepared, folder / "merged")
    return [Host(form, task, source, folder / form, inputs, compute) for form in forms]


def measure_alone(host: Host, tasks: int, threads: int) -> dict[str, Any]:
    """:func:`measure` in a process of its own; BrokenProcessPool where that was killed."""
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if forks else "spawn")
    if forks:  # from a process that imports once, and does nothing else
        context.set_forkserver_preload([__name__, "peft", *PRELOADED_MODULES])
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(measure, host, tasks, threads).result()


def measure(host: Host, tasks: int, threads: int) -> dict[str, Any]:
    """The costs of so many tasks, by the fields of :class:`HostingCost`.

    Call it in a process that has done nothing else.
    """
    torch.set_num_threads(threads)
    device = host.compute.device
    warm_libraries(device, bf16=host.compute.precision == "bf16")
    base_bytes, task_bytes = (
        sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        for folder in (host.source.folder, host.folder)
    )
    loaded = min(tasks, max(2, LOADED_BYTES // task_bytes))
    counter, loads, resident = choose_counter(device), StepClock(device, warm_up=1), []
    release_memory()
    before = counter.read_bytes()
    with quiet_transformers():
        for number in range(loaded):
            with loads.step():
                host.add()
            host.answer()  # reads what is mapped
            if number in (0, loaded - 1):
                release_memory()
                resident.append(counter.read_bytes() - before)
    order = cycle(range(loaded))
    swaps = StepClock(device).repeat(lambda: host.select(next(order)), LIMIT_SECONDS)
    passes = StepClock(device).repeat(host.answer, LIMIT_SECONDS)
    each = (resident[1] - resident[0]) / (loaded - 1)
    return {
        "disk_bytes": task_bytes * tasks + (0 if host.form == "merged" else base_bytes),
        "memory_bytes": round(resident[0] + each * (tasks - 1)),
        "loaded_tasks": loaded,
        "load_seconds": float(np.median(loads.counted_seconds)),
        "swap_seconds": swaps["median"],
        "text_seconds": passes["median"],
    }
